"""`python -m fairseq_seqvae` prints the folder to give to fairseq's commands as `--user-dir`, or runs a command.

    fairseq-train DATA --user-dir "$(python -m fairseq_seqvae)" --task seqvae ...
    python -m fairseq_seqvae measure DATA --path CHECKPOINT

Without a command, only the folder goes to standard output. Should fairseq be missing or broken, one sentence on
standard error says so and the exit status is 1.
"""

import argparse
import importlib
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from fairseq_seqvae import __version__, compat

# command -> module that has main(argv) -> exit status, and what the command does
COMMANDS = {
    "measure": ("fairseq_seqvae.measure.__main__", "likelihood of held-out sequences, use of the latent, variety"),
    "judge": (
        "fairseq_seqvae.judge.__main__",
        "can a fresh discriminator tell samples from held-out data?",
    ),
    "select": ("fairseq_seqvae.judge.select", "draws that discriminators find as real as data, by rejection"),
    "estimators": ("fairseq_seqvae.estimators.__main__", "signal per second of ways to estimate the policy gradient"),
    "export": ("fairseq_seqvae.export.__main__", "a checkpoint without what only training needs"),
    "fit-prior": ("fairseq_seqvae.fit_prior.__main__", "a mixture of Gaussians as the prior of a trained model"),
    "flags": ("fairseq_seqvae.flags.__main__", "all flags of the plugin, with defaults, bounds and units"),
    "melody": ("fairseq_seqvae.melody.__main__", "training lines from tunes and MIDI files; MIDI and pictures"),
    "oracle": (
        "fairseq_seqvae.oracle.__main__",
        "data from a random LSTM, with or without a latent; its judgement",
    ),
    "compare": ("fairseq_seqvae.cards.compare", "a checkpoint against the truth of the oracle with a latent"),
    "card": ("fairseq_seqvae.cards.__main__", "the paper's synthetic experiment: methods, lengths, seeds, figures"),
    "latent-card": ("fairseq_seqvae.cards.latent_card", "remedies against an unused latent: methods, data sets, seeds"),
    "reward-card": ("fairseq_seqvae.cards.reward_card", "what a reward buys, beside best-of-n and temperature"),
    "spm": ("fairseq_seqvae.tools.spm", "train a sentencepiece model; encode and decode lines"),
    "curves": ("fairseq_seqvae.tools.curves", "curves of a training from fairseq's JSON log"),
}


def versions() -> str:
    """Return the versions that a problem report should contain, one per line."""
    rows = {
        "fairseq-seqvae": __version__,
        "fairseq": compat.fairseq_version(),
        "torch": compat.installed_version("torch"),
        "numpy": compat.installed_version("numpy"),
        "python": platform.python_version(),
    }
    return "\n".join(f"{name} {version or '(not installed)'}" for name, version in rows.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Print the folder, or run a command; the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        return importlib.import_module(COMMANDS[words[0]][0]).main(words[1:])
    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="python -m fairseq_seqvae",
        description="Print the folder to give to fairseq's commands as --user-dir, or run a command.",
        epilog="commands (each has a --help):\n"
        + "\n".join(f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the versions of all that matters instead")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help="see below")
    args = parser.parse_args(words)
    if args.command is not None:
        parser.error(f"there is no command {args.command!r}: choose one of {', '.join(COMMANDS)}")
    print(versions() if args.version else Path(__file__).resolve().parent)
    if problem := compat.fairseq_problem():
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
