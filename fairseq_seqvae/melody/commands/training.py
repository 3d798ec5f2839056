"""The commands that make training lines: `windows`, `from-midi` and `from`."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from fairseq_seqvae.melody import folders, keys, labels, midi_folder, windows
from fairseq_seqvae.melody.commands.shared import (
    add_grid_option,
    command,
    counted,
    meter,
    print_count,
    print_reasons,
)
from fairseq_seqvae.melody.folders import Account, Cut
from fairseq_seqvae.support.command_line import Commands, positive, refuse_existing

_MOST_LINES = 3  # on standard error, for each reason
# The kinds of a reader's remarks that are printed; the others are counted in lines of their own.
_REMARKS = ("not read", "repeats", "bars that", "octave", "no meter", "lines after")
_SILENT = "of another meter"  # has a line of its own


def run_windows(args: argparse.Namespace) -> None:
    """Cut windows from tables of tunes."""
    written = labels.label_paths(args.out) if args.labels else []
    refuse_existing([*windows.written_paths(args.out), *written], args.force)
    tunes = [tune for path in windows.tables(args.tunes) for tune in windows.read_tunes(path)]
    if args.common_key:
        tunes = [keys.in_common_key(tune) for tune in tunes]
    unused: Counter[str] = Counter()
    if args.meter:
        chosen = [tune for tune in tunes if windows.is_in_meter(tune, args.meter)]
        unused["of another meter"] = len(tunes) - len(chosen)
        tunes = chosen
    commonest = Counter(tune.steps_per_bar for tune in tunes).most_common(1)
    steps = args.steps_per_bar or (commonest[0][0] if args.meter and commonest else 16)
    if args.labels:
        found = labels.labelled_windows(tunes, args.labels, args.bars, steps, args.start)
        splits, left_out = found.windows, found.left_out
    else:
        splits, left_out = windows.tune_windows(tunes, args.bars, steps, args.start)
    used: Counter[str] = Counter()
    for tune in tunes:
        if tune.steps_per_bar != steps:
            unused[f"of {tune.steps_per_bar} steps per bar"] += 1
        elif len(tune.tokens) < args.bars * steps:
            unused[f"shorter than {args.bars} bars"] += 1
        else:
            used[tune.split] += 1
    print_count("tunes", used)
    print_reasons("tunes left out", +unused)
    # The table says which tune is in which split: windows of train do not fill a split that it left empty.
    _write_windows(splits, left_out, args.out, steps, is_split_here=False)
    if args.labels:
        labels.write_labels(found.labels, args.out)
        print_reasons("labels of train", Counter(found.labels["train"]))
        print(f"written: {', '.join(map(str, written))}")


def run_from_midi(args: argparse.Namespace) -> None:
    """Cut windows from MIDI files."""
    refuse_existing(windows.written_paths(args.out), args.force)
    track = int(args.track) if args.track is not None and args.track.isdecimal() else args.track
    splits, account = midi_folder.folder_windows(args.midi, _cut(args), track)
    _report(account, _cut(args), "files", "--track")
    _write_windows(splits, account.windows, args.out, _cut(args).steps)


def run_from(args: argparse.Namespace) -> None:
    """Cut windows from files of all kinds."""
    refuse_existing(windows.written_paths(args.out), args.force)
    splits, account = folders.music_windows(args.files, _cut(args), args.voice)
    _report(account, _cut(args), "tunes", "--voice")
    _write_windows(splits, account.windows, args.out, _cut(args).steps)


def _cut(args: argparse.Namespace) -> Cut:
    return Cut(
        args.bars, args.steps_per_bar, args.steps_per_quarter, args.start, args.meter, common_key=args.common_key
    )


def _report(account: Account, cut: Cut, what: str, voice_flag: str) -> None:
    """What was used, what not and why, and how to use more of it. Raises `ValueError` if nothing can be used."""
    _print_left_out(account, what)
    hints = list(_hints(account, cut, what))
    if account.reasons["several voices"] or account.reasons["chords, not a melody"]:
        hints.append(f"of {what} with several voices or with chords, {voice_flag} says which voice to take")
    if not account.files:
        every = f"none of the {len(account.left_out)} {what} can be used"
        raise ValueError("; ".join([every, *hints]))
    print_count(what, account.files)
    print_reasons(f"{what} left out", account.reasons)
    print(f"notes: {account.kept_notes}")
    print_reasons("notes moved, cut or left out", account.notes)
    for remark, count in account.remarks.most_common():
        if remark.startswith(_REMARKS):
            print(f"in {counted(count, what)}: {remark}")
    for hint in hints:
        print(hint)


def _print_left_out(account: Account, what: str) -> None:
    """A few lines for each reason. Those left out for their meter have one sentence for all of them."""
    shown: Counter[str] = Counter()
    for _, reason, sentence in account.left_out:
        shown[reason] += 1
        if reason != _SILENT and shown[reason] <= _MOST_LINES:
            print(f"left out: {sentence}", file=sys.stderr)
    for reason, count in shown.items():
        if reason != _SILENT and count > _MOST_LINES:
            print(f"left out: {reason}: {counted(count - _MOST_LINES, what)} more", file=sys.stderr)


def _hints(account: Account, cut: Cut, what: str) -> Iterator[str]:
    """What would use more of the music, a sentence each."""
    if account.other_meters:
        total, names = sum(account.other_meters.values()), _names(account.other_meters)
        yield f"{counted(total, what)} in another meter ({names}): {_how_to_take(account.other_meters, cut)}"
    compound = [kind for kind in account.meters if not folders.same_meter(kind, next(iter(account.meters)))]
    if compound and cut.meter is None:
        beats, unit = account.meters.most_common(1)[0][0]
        names = _names(account.meters)
        yield f"the bars are of one length but counted differently ({names}): --meter {beats}/{unit} takes one kind"
    if account.triplets:
        finer = 12 if cut.steps_per_quarter % 2 == 0 else 3 * cut.steps_per_quarter
        yield f"{counted(account.triplets, 'notes')} of triplets moved: --steps-per-quarter {finer} keeps them"


def _names(meters: Counter) -> str:
    return ", ".join(f"{beats}/{unit} {count}" for (beats, unit), count in meters.most_common())


def _how_to_take(meters: Counter, cut: Cut) -> str:
    """The flag that takes most of the music in these meters."""
    (beats, unit), commonest = meters.most_common(1)[0]
    by_meter = f"--meter {beats}/{unit} takes {commonest} of them"
    by_steps: Counter[Fraction] = Counter()
    for (upper, lower), count in meters.items():
        by_steps[Fraction(4 * cut.steps_per_quarter * upper, lower)] += count
    steps, count = by_steps.most_common(1)[0]
    if cut.meter is not None or steps.denominator != 1:
        return by_meter
    # Jigs and waltzes have bars of the same length.
    return f"--steps-per-bar {steps} takes {count} of them" + (f", {by_meter}" if commonest < count else "")


def _write_windows(
    splits: dict[str, list[np.ndarray]], left_out: Counter, folder: str, steps_per_bar: int, is_split_here: bool = True
) -> None:
    print_count("windows", Counter({split: len(splits[split]) for split in windows.SPLITS}))
    print_reasons("windows left out", left_out)
    if not splits["train"]:
        raise ValueError("nothing is written, for train would have no windows: try fewer --bars or --start any")
    if is_split_here:
        for split, count in folders.fill_splits(splits).items():
            given = counted(count, "windows")
            print(f"{split} was empty: it gets {given} of train, from the same tunes, so its figures flatter")
    elif empty := [split for split in windows.SPLITS if not splits[split]]:
        print(f"{' and '.join(empty)} will be empty, for no tune of the table that can be used is in it")
    train = {window.tobytes() for window in splits["train"]}
    for split in ("valid", "test"):
        if known := sum(window.tobytes() in train for window in splits[split]):
            print(f"of the {split} windows, {known} are in train as well")
    windows.write_splits(splits, folder, steps_per_bar)
    print(f"written: {', '.join(map(str, windows.written_paths(folder)))}")


def add_windows(commands: Commands) -> None:
    """Add `windows`."""
    added = command(
        commands, "windows", run_windows, "training lines from tables of tunes", "windows tunes.tsv --bars 4 --out DIR"
    )
    added.add_argument(
        "tunes",
        nargs="+",
        metavar="FOLDER_OR_FILE",
        help="tables with the columns id, split, meter, key, steps_per_bar, notes; of a folder all its .tsv files",
    )
    _add_window_options(added)
    added.add_argument(
        "--steps-per-bar",
        type=positive,
        metavar="N",
        help="only tunes whose bar has N steps: 16 (default) reels, 12 jigs and waltzes, 18 slip jigs",
    )
    added.add_argument(
        "--labels", choices=tuple(labels.KINDS), help="write a label of each window, too, for --task seqvae --labels"
    )


def add_from_midi(commands: Commands) -> None:
    """Add `from-midi`."""
    added = command(
        commands,
        "from-midi",
        run_from_midi,
        "training lines from MIDI files, split by file",
        "from-midi FOLDER --bars 8 --out DIR",
    )
    added.add_argument("midi", nargs="+", metavar="FOLDER_OR_FILE", help="folders are searched for .mid and .midi")
    _add_window_options(added)
    added.add_argument(
        "--track",
        help="number (from 0) or part of the name of the track (default: the one with most onsets, drums and tracks of "
        "chords excepted)",
    )
    _add_file_options(added)


def add_from(commands: Commands) -> None:
    """Add `from`."""
    added = command(
        commands,
        "from",
        run_from,
        "training lines from MIDI, ABC and MusicXML files, split by tune",
        "from FOLDER --meter 6/8 --bars 8 --out DIR",
    )
    added.add_argument(
        "files",
        nargs="+",
        metavar="FOLDER_OR_FILE",
        help="folders are searched for .mid, .midi, .abc, .musicxml, .xml and .mxl",
    )
    _add_window_options(added)
    added.add_argument(
        "--voice",
        help="id or part of the name of the voice, track or part to take (default: the only one, or the only one above "
        "chords)",
    )
    _add_file_options(added)


def _add_file_options(added: argparse.ArgumentParser) -> None:
    add_grid_option(added)
    added.add_argument(
        "--steps-per-bar",
        type=positive,
        metavar="N",
        help="only music whose bar has N steps (default: a bar of --meter, or of 4/4)",
    )


def _add_window_options(added: argparse.ArgumentParser) -> None:
    added.add_argument("--bars", type=positive, default=4, metavar="N", help="bars a window (default: %(default)s)")
    added.add_argument("--out", required=True, metavar="DIR", help="folder for train.txt, valid.txt and test.txt")
    added.add_argument(
        "--meter", type=meter, help="only music in this meter, such as 6/8 or 3/4, which have bars of the same length"
    )
    added.add_argument(
        "--common-key", action="store_true", help="transpose each tune so that its notes lie on the white keys"
    )
    added.add_argument(
        "--start",
        choices=windows.STARTS,
        default="auto",
        help="onset: only windows that begin with a note; any: all; auto (default): onset for up to 4 bars",
    )
