"""The commands `python -m fairseq_seqvae.melody windows | from-midi | to-midi | plot`."""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fairseq_seqvae.melody import midi, midi_folder, plot, windows
from fairseq_seqvae.melody.samples import read_samples
from fairseq_seqvae.melody.studio import command
from fairseq_seqvae.melody.tokens import decode_notes
from fairseq_seqvae.support.command_line import Commands, positive, refuse_existing

_PROG = "python -m fairseq_seqvae.melody"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 after one sentence about bad input on standard error."""
    return _commands().run(argv)


def _windows(args: argparse.Namespace) -> None:
    refuse_existing([*windows.split_paths(args.out), windows.dictionary_path(args.out)], args.force)
    tunes = windows.read_tunes(args.tunes)
    splits, left_out = windows.tune_windows(tunes, args.bars, args.steps_per_bar, args.start)
    used: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    for tune in tunes:
        if tune.steps_per_bar != args.steps_per_bar:
            unused[f"of {tune.steps_per_bar} steps per bar"] += 1
        elif len(tune.tokens) < args.bars * args.steps_per_bar:
            unused[f"shorter than {args.bars} bars"] += 1
        else:
            used[tune.split] += 1
    _print_count("tunes", used)
    _print_reasons("tunes left out", unused)
    _write_windows(splits, left_out, args.out)


def _from_midi(args: argparse.Namespace) -> None:
    refuse_existing([*windows.split_paths(args.out), windows.dictionary_path(args.out)], args.force)
    track = int(args.track) if args.track is not None and args.track.isdecimal() else args.track
    splits, account = midi_folder.folder_windows(
        args.midi, args.bars, args.steps_per_bar, args.steps_per_quarter, args.start, track
    )
    for _, sentence in account.left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    if not account.files:
        raise ValueError(f"none of the {len(account.left_out)} files can be used")
    _print_count("files", account.files)
    _print_reasons("files left out", account.reasons)
    print(f"notes: {account.kept_notes}")
    _print_reasons("notes moved, cut or left out", account.notes)
    _write_windows(splits, account.windows, args.out)


def _to_midi(args: argparse.Namespace) -> None:
    samples, left_out = read_samples(args.file, "T" if args.targets else "D", args.limit)
    targets = [Path(args.out, f"sample-{sample.number:03d}.mid") for sample in samples]
    refuse_existing(targets, args.force)
    _print_lines(left_out)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    for sample, path in zip(samples, targets, strict=True):
        midi.write_midi(
            sample.tokens,
            path,
            tempo=args.tempo,
            program=args.program,
            meter=args.meter,
            steps_per_quarter=args.steps_per_quarter,
            name=sample.label,
        )
        print(f"{path}: {sample.label}, {len(decode_notes(sample.tokens))} notes, {len(sample.tokens)} steps")


def _plot(args: argparse.Namespace) -> None:
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
    _print_lines(left_out)
    melodies = [sample.tokens for sample in samples]
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    if args.kind == "samples":
        plot.plot_samples(melodies, args.out, labels=[sample.label for sample in samples], **options)
    else:
        way = max(len(samples) + len(left_out) - 1, 1)
        plot.plot_interpolation(melodies, args.out, places=[sample.number / way for sample in samples], **options)
    print(f"{args.out}: {len(samples)} melodies")


def _write_windows(splits: dict, left_out: Counter, folder: str) -> None:
    _print_count("windows", Counter({split: len(splits[split]) for split in windows.SPLITS}))
    _print_reasons("windows left out", left_out)
    train = {window.tobytes() for window in splits["train"]}
    for split in ("valid", "test"):
        if known := sum(window.tobytes() in train for window in splits[split]):
            print(f"of the {split} windows, {known} are in train as well")
    if not train:
        raise ValueError("nothing is written, for train would have no windows: try fewer --bars or --start any")
    windows.write_splits(splits, folder)
    paths = [*windows.split_paths(folder), windows.dictionary_path(folder)]
    print(f"written: {', '.join(map(str, paths))}")


def _print_count(what: str, count: Counter) -> None:
    print(f"{what}: {sum(count.values())} ({', '.join(f'{split} {count[split]}' for split in windows.SPLITS)})")


def _print_reasons(what: str, reasons: Counter) -> None:
    if reasons:
        print(f"{what}: {', '.join(f'{count} {reason}' for reason, count in reasons.most_common())}")


def _print_lines(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        print(sentence, file=sys.stderr)


def _meter(text: str) -> tuple[int, int]:
    numerator, _, denominator = text.partition("/")
    if not numerator.isdecimal() or not 1 <= int(numerator) <= 99 or denominator not in ("1", "2", "4", "8", "16"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a meter such as 4/4 or 6/8")
    return int(numerator), int(denominator)


def _commands() -> Commands:
    commands = Commands(
        _PROG, "Melodies: training lines from tunes or MIDI files; MIDI files and pictures from samples."
    )
    for add in (_add_windows, _add_from_midi, _add_to_midi, _add_plot, command.add_studio, command.add_studio_model):
        add(commands)
    return commands


def _command(commands: Commands, name: str, run: Callable, summary: str, example: str) -> argparse.ArgumentParser:
    added = commands.add(name, run, summary, example)
    added.add_argument("--force", action="store_true", help="overwrite existing files")
    return added


def _add_window_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--bars", type=positive, default=4, metavar="N", help="bars a window (default: %(default)s)")
    added.add_argument("--out", required=True, metavar="DIR", help="folder for train.txt, valid.txt and test.txt")
    added.add_argument(
        "--start",
        choices=windows.STARTS,
        default="auto",
        help="onset: only windows that begin with a note; any: all; auto (default): onset for up to 4 bars",
    )


def _add_sample_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("file", metavar="FILE", help="output of fairseq-generate, or token lines such as test.txt")
    added.add_argument("--targets", action="store_true", help="take the T- lines (the data), not the D- lines")
    added.add_argument("--limit", type=positive, metavar="N", help="only the first N melodies")
    added.add_argument("--meter", type=_meter, default="4/4", help="for the bar lines (default: %(default)s)")


def _add_grid_option(added: argparse.ArgumentParser) -> None:
    added.add_argument("--steps-per-quarter", type=positive, default=4, metavar="N", help="grid (default: %(default)s)")


def _add_windows(commands: Commands) -> None:
    added = _command(
        commands, "windows", _windows, "training lines from a table of tunes", "windows tunes.tsv --bars 4 --out DIR"
    )
    added.add_argument("tunes", metavar="TUNES.tsv", help="columns id, split, meter, key, steps_per_bar, notes")
    _add_window_options(added)
    added.add_argument(
        "--steps-per-bar",
        type=positive,
        default=16,
        metavar="N",
        help="only tunes whose bar has N steps: 16 (default) reels, 12 jigs and waltzes, 18 slip jigs",
    )


def _add_from_midi(commands: Commands) -> None:
    added = _command(
        commands,
        "from-midi",
        _from_midi,
        "training lines from MIDI files, split by file",
        "from-midi FOLDER --bars 8 --out DIR",
    )
    added.add_argument("midi", nargs="+", metavar="FOLDER_OR_FILE", help="folders are searched for .mid and .midi")
    _add_window_options(added)
    added.add_argument(
        "--track",
        help="number (from 0) or part of the name of the track (default: the one with most onsets, drums excepted)",
    )
    _add_grid_option(added)
    added.add_argument(
        "--steps-per-bar", type=positive, metavar="N", help="only music whose bar has N steps (default: 4/4)"
    )


def _add_to_midi(commands: Commands) -> None:
    added = _command(
        commands, "to-midi", _to_midi, "a MIDI file for each melody", "to-midi generate-test.txt --out DIR"
    )
    _add_sample_options(added)
    added.add_argument("--out", required=True, metavar="DIR", help="folder for sample-000.mid, sample-001.mid, ...")
    added.add_argument("--tempo", type=float, default=120, help="quarter notes a minute (default: %(default)s)")
    added.add_argument(
        "--program", type=int, default=73, help="instrument: 0 piano, 40 violin, 73 flute (default: %(default)s)"
    )
    _add_grid_option(added)


def _add_plot(commands: Commands) -> None:
    added = _command(
        commands, "plot", _plot, "a picture of melodies as piano rolls", "plot generate-test.txt --out samples.png"
    )
    _add_sample_options(added)
    added.add_argument("--out", required=True, metavar="FILE", help="the picture, .png or .svg")
    added.add_argument("--title", default="", help="heading of the picture")
    added.add_argument(
        "--kind",
        choices=("samples", "interpolation"),
        default="samples",
        help="samples (default): a grid, of 8 without --limit; interpolation: a column from first to last",
    )
    _add_grid_option(added)


if __name__ == "__main__":
    sys.exit(main())
