"""The commands `python -m fairseq_seqvae.melody COMMAND`: see `commands`, and `--help`."""

import sys
from collections.abc import Sequence

from fairseq_seqvae.melody.commands import judging, listening, playing, training
from fairseq_seqvae.support.command_line import Commands

_PROG = "python -m fairseq_seqvae.melody"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 after one sentence about bad input on standard error."""
    return _commands().run(argv)


def _commands() -> Commands:
    commands = Commands(
        _PROG, "Melodies: training lines from files of music; files of music, sound and pictures from samples."
    )
    training.add_windows(commands)
    training.add_from(commands)
    training.add_from_midi(commands)
    listening.add_to_midi(commands)
    listening.add_to_abc(commands)
    listening.add_to_wav(commands)
    listening.add_plot(commands)
    judging.add_judge(commands)
    playing.add_studio(commands)
    playing.add_studio_model(commands)
    return commands


if __name__ == "__main__":
    sys.exit(main())
