"""Training windows from a folder of MIDI files, with an account of all that was left out."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from os import PathLike
from pathlib import Path

import numpy as np

from fairseq_seqvae.melody.midi import MidiError, MidiMelody, read_midi
from fairseq_seqvae.melody.tokens import encode_notes
from fairseq_seqvae.melody.windows import SPLITS, cut_windows, resolve_start, select_windows

_SUFFIXES = (".mid", ".midi")


@dataclass
class Account:
    """What became of the files, notes and windows.

    files:           how many were used, by split
    left_out:        (file, why not used), in order of file
    reasons:         how many files were not used, by reason
    notes, windows:  how many were changed or left out of the files used, by reason; `kept_notes`: how many stayed
    """

    files: Counter = field(default_factory=Counter)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    reasons: Counter = field(default_factory=Counter)
    kept_notes: int = 0
    notes: Counter = field(default_factory=Counter)
    windows: Counter = field(default_factory=Counter)

    def leave_out(self, path: Path, reason: str, sentence: str) -> None:
        """Note that a file is not used."""
        self.left_out.append((path, sentence))
        self.reasons[reason] += 1


def find_files(paths: Iterable[str | PathLike]) -> list[Path]:
    """The files named, and the .mid and .midi files in the folders named and below. `ValueError` if there is none."""
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            inside = [file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file()]
            if not inside:
                raise ValueError(f"{path} has no .mid or .midi files in it")
            found.update(inside)
        elif path.exists():
            found.add(path)
        else:
            raise ValueError(f"{path} does not exist")
    if not found:
        raise ValueError("no MIDI files were named")
    return sorted(found)


def split_by_name(names: Iterable[str]) -> dict[str, str]:
    """The split of each file name: about 90 % train, 5 % valid, 5 % test.

    It depends on a hash of the name alone, so that a file stays in its split when others come or go. The exception: a
    split that chance left empty gets a file of the largest one (train in any case, then valid, then test).
    """
    place = {name: _place(name) for name in names}
    ordered = sorted(place, key=lambda name: place[name])
    splits = {name: "valid" if place[name] < 0.05 else "test" if place[name] < 0.1 else "train" for name in ordered}
    # In order of place, so that whatever the order of the names the same ones move.
    for needy in ("train", "valid", "test"):
        counts = Counter(splits.values())
        donor = max(SPLITS, key=lambda split: (counts[split], split == "train"))
        if counts[needy] == 0 and counts[donor] > (needy != "train"):
            splits[next(name for name in ordered if splits[name] == donor)] = needy
    return splits


def _place(name: str) -> float:
    """A number in [0, 1) that looks random."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def melody_windows(
    melody: MidiMelody, bars: int, steps_per_bar: int, steps_per_quarter: int
) -> tuple[list[np.ndarray], int]:
    """All windows of the parts whose meter has `steps_per_bar` steps per bar, and how many notes begin in no window.

    The windows lie between the bar of the first and the bar of the last note of each part. The last bar of the melody
    is completed by silence; a bar that a change of meter cuts short is not used.
    """
    windows: list[np.ndarray] = []
    unused = len(melody.notes)
    ends = [step for step, _, _ in melody.meters[1:]] + [Fraction(melody.length)]
    for (start, numerator, denominator), end in zip(melody.meters, ends, strict=True):
        bar = Fraction(4 * steps_per_quarter * numerator, denominator)
        notes = [note for note in melody.notes if start <= note.start < end]
        if bar != steps_per_bar or start.denominator != 1 or not notes:
            continue
        origin = int(start)
        first = origin + (notes[0].start - origin) // steps_per_bar * steps_per_bar
        last = origin - (origin - notes[-1].end) // steps_per_bar * steps_per_bar
        if end < melody.length:
            last = min(last, origin + (int(end) - origin) // steps_per_bar * steps_per_bar)
        tokens = encode_notes(melody.notes, max(melody.length, last))
        cut = list(cut_windows(tokens[first:last], bars, steps_per_bar))
        windows.extend(cut)
        unused -= len(notes) if cut else 0
    return windows, unused


def folder_windows(
    paths: Iterable[str | PathLike],
    bars: int,
    steps_per_bar: int | None = None,
    steps_per_quarter: int = 4,
    start: str = "auto",
    track: int | str | None = None,
) -> tuple[dict[str, list[np.ndarray]], Account]:
    """The windows of each split, split by file, and the account. `steps_per_bar` defaults to a bar of 4/4."""
    start = resolve_start(start, bars)
    steps_per_bar = 4 * steps_per_quarter if steps_per_bar is None else steps_per_bar
    account = Account()
    cut: dict[Path, list[np.ndarray]] = {}
    for path in find_files(paths):
        try:
            melody = read_midi(path, track, steps_per_quarter)
        except MidiError as error:
            account.leave_out(path, error.reason, str(error))
            continue
        windows, unused = melody_windows(melody, bars, steps_per_bar, steps_per_quarter)
        if not windows:
            meters = dict.fromkeys(f"{numerator}/{denominator}" for _, numerator, denominator in melody.meters)
            reason = f"no {bars} bars of {steps_per_bar} steps on end"
            account.leave_out(path, reason, f"{path}: {reason} (meter {', '.join(meters)}; {melody.length} steps)")
            continue
        cut[path] = windows
        account.kept_notes += len(melody.notes) - unused
        account.notes += melody.losses + Counter({"in parts of another meter or too short": unused})
    split_of = split_by_name(path.name for path in cut)
    account.files = Counter(split_of[path.name] for path in cut)
    splits = {}
    for split in SPLITS:
        mine = (window for path in cut if split_of[path.name] == split for window in cut[path])
        splits[split], reasons = select_windows(mine, start)
        account.windows += reasons
    return splits, account
