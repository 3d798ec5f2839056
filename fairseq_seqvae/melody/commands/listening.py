"""The commands that make melodies heard and seen: `to-midi`, `to-abc`, `to-wav` and `plot`."""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from fairseq_seqvae.melody import music, plot
from fairseq_seqvae.melody.commands.shared import add_grid_option, add_sample_options, command, print_lines
from fairseq_seqvae.melody.samples import Sample, read_samples
from fairseq_seqvae.melody.tokens import canonical, decode_notes
from fairseq_seqvae.melody.tunes import Tune, join
from fairseq_seqvae.support.command_line import Commands, positive, refuse_existing
from fairseq_seqvae.support.files import whole_file


def run_to_midi(args: argparse.Namespace) -> None:
    """Write MIDI files."""
    _write(args, ".mid", lambda tunes: music.write_midi(tunes, args.tempo, args.program))


def run_to_wav(args: argparse.Namespace) -> None:
    """Write WAV files."""
    _write(args, ".wav", lambda tunes: music.write_wav(tunes, args.tempo, args.rate))


def run_to_abc(args: argparse.Namespace) -> None:
    """Write one ABC file."""
    one_tune, args.joined = args.joined, True
    _write(args, ".abc", lambda tunes: music.write_abc([join(tunes, Path(args.out).stem)] if one_tune else tunes))


def _write(args: argparse.Namespace, suffix: str, content: Callable[[list[Tune]], bytes]) -> None:
    """Write all melodies into one file with `--joined`, or else each into one of its own."""
    samples, left_out = read_samples(args.file, "T" if args.targets else "D", args.limit)
    out = Path(args.out)
    if args.joined:
        if out.suffix.lower() != suffix:
            raise ValueError(f"--out names the one file, which must end in {suffix}, but is {args.out}")
        targets, folder = [out], out.parent
    else:
        targets, folder = [out / f"sample-{sample.number:03d}{suffix}" for sample in samples], out
    refuse_existing(targets, args.force)
    print_lines(left_out)
    tunes = [_tune(sample, args) for sample in samples]
    parts = [tunes] if args.joined else [[tune] for tune in tunes]
    folder.mkdir(parents=True, exist_ok=True)
    for path, part in zip(targets, parts, strict=True):
        made = content(part)
        with whole_file(path) as partial:
            partial.write_bytes(made)
        named = part[0].name if len(part) == 1 else f"{len(part)} melodies"
        notes = sum(len(decode_notes(tune.symbols)) for tune in part)
        print(f"{path}: {named}, {notes} notes, {sum(tune.length for tune in part)} steps")


def _tune(sample: Sample, args: argparse.Namespace) -> Tune:
    return Tune(sample.label, canonical(sample.tokens).tolist(), args.meter, args.steps_per_quarter, tempo=args.tempo)


def run_plot(args: argparse.Namespace) -> None:
    """Draw piano rolls."""
    refuse_existing([Path(args.out)], args.force)
    # The import of fairseq leaves the root logger at DEBUG, where matplotlib tells a line for every font.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    numerator, denominator = args.meter
    steps_per_beat, rest = divmod(4 * args.steps_per_quarter, denominator)
    if rest:
        raise ValueError(f"a {denominator}th of a whole note is no whole number of steps: raise --steps-per-quarter")
    options = {"title": args.title, "steps_per_bar": numerator * steps_per_beat}
    # The beat of 6/8, 9/8 and 12/8 is three eighths.
    options["steps_per_beat"] = steps_per_beat * (3 if denominator == 8 and numerator % 3 == 0 else 1)
    limit = 8 if args.limit is None and args.kind == "samples" else args.limit
    samples, left_out = read_samples(args.file, "T" if args.targets else "D", limit)
    print_lines(left_out)
    melodies = [sample.tokens for sample in samples]
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    if args.kind == "samples":
        plot.plot_samples(melodies, args.out, labels=[sample.label for sample in samples], **options)
    else:
        way = max(len(samples) + len(left_out) - 1, 1)
        plot.plot_interpolation(melodies, args.out, places=[sample.number / way for sample in samples], **options)
    print(f"{args.out}: {len(samples)} melodies")


def add_to_midi(commands: Commands) -> None:
    """Add `to-midi`."""
    added = command(
        commands, "to-midi", run_to_midi, "a MIDI file for each melody", "to-midi generate-test.txt --out DIR"
    )
    add_sample_options(added)
    _add_joined(added, "mid")
    _add_tempo(added)
    added.add_argument(
        "--program", type=int, default=73, help="instrument: 0 piano, 40 violin, 73 flute (default: %(default)s)"
    )
    add_grid_option(added)


def add_to_wav(commands: Commands) -> None:
    """Add `to-wav`."""
    added = command(
        commands, "to-wav", run_to_wav, "sound for each melody", "to-wav walk.txt --joined --tempo 180 --out walk.wav"
    )
    add_sample_options(added)
    _add_joined(added, "wav")
    _add_tempo(added)
    added.add_argument(
        "--rate", type=positive, default=22050, metavar="HZ", help="samples per second (default: %(default)s)"
    )
    add_grid_option(added)


def add_to_abc(commands: Commands) -> None:
    """Add `to-abc`."""
    added = command(
        commands, "to-abc", run_to_abc, "a tune book in ABC notation", "to-abc generate-test.txt --out tunes.abc"
    )
    add_sample_options(added)
    added.add_argument(
        "--joined", action="store_true", help="all melodies one after another as one tune, such as a walk"
    )
    added.add_argument("--out", required=True, metavar="FILE", help="the tune book, .abc")
    added.add_argument("--tempo", type=float, help="quarter notes per minute (default: none is written)")
    add_grid_option(added)


def _add_joined(added: argparse.ArgumentParser, suffix: str) -> None:
    added.add_argument(
        "--joined", action="store_true", help="one file with all melodies one after another, such as a walk"
    )
    added.add_argument(
        "--out",
        required=True,
        metavar="DIR_OR_FILE",
        help=f"folder for sample-000.{suffix}, sample-001.{suffix}, ...; with --joined the file",
    )


def _add_tempo(added: argparse.ArgumentParser) -> None:
    added.add_argument("--tempo", type=float, default=120, help="quarter notes per minute (default: %(default)s)")


def add_plot(commands: Commands) -> None:
    """Add `plot`."""
    added = command(
        commands, "plot", run_plot, "a picture of melodies as piano rolls", "plot generate-test.txt --out samples.png"
    )
    add_sample_options(added)
    added.add_argument("--out", required=True, metavar="FILE", help="the picture, .png or .svg")
    added.add_argument("--title", default="", help="heading of the picture")
    added.add_argument(
        "--kind",
        choices=("samples", "interpolation"),
        default="samples",
        help="samples (default): a grid, of 8 without --limit; interpolation: a column from first to last",
    )
    add_grid_option(added)
