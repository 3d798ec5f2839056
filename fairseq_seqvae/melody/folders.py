"""Training windows from many tunes, split by tune, with an account of all that was left out."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np

from fairseq_seqvae.melody import keys, music
from fairseq_seqvae.melody.tokens import Note, encode_notes
from fairseq_seqvae.melody.tunes import Tune, bar_steps, same_meter
from fairseq_seqvae.melody.windows import SPLITS, cut_windows, resolve_start, select_windows

_LEAST_SHARE = 20  # a split made from train gets one window of so many, but at least one


class Melody(Protocol):
    """What windows are cut from: a `Tune`, or the melody of a MIDI file."""

    @property
    def notes(self) -> list[Note]: ...

    @property
    def length(self) -> int: ...

    @property
    def meters(self) -> list[tuple[Fraction, int, int]]: ...


@dataclass(frozen=True)
class Cut:
    """How windows are cut.

    bars:               of a window
    steps_per_bar:      only music whose bar has so many steps; None for a bar of `meter`, or of 4/4
    steps_per_quarter:  grid
    start:              `onset`, `any` or `auto`, see `windows.resolve_start`
    meter:              only music in this meter (2/2 counts as 4/4, but 3/4 not as 6/8); None for any
    common_key:         move each melody as a whole until its notes lie on the white keys, see `keys`
    """

    bars: int
    steps_per_bar: int | None = None
    steps_per_quarter: int = 4
    start: str = "auto"
    meter: tuple[int, int] | None = None
    common_key: bool = False

    @property
    def steps(self) -> int:
        """Steps in a bar. Raises `ValueError` if the grid is too coarse for `meter`."""
        if self.steps_per_bar is not None:
            return self.steps_per_bar
        return bar_steps(self.meter or (4, 4), self.steps_per_quarter)

    def takes(self, meter: tuple[int, int]) -> bool:
        """Whether music in a meter is used."""
        steps = Fraction(4 * self.steps_per_quarter * meter[0], meter[1])
        return steps == self.steps and (self.meter is None or same_meter(meter, self.meter))


@dataclass
class Account:
    """What became of the files or tunes, their notes and windows.

    files:           how many were used, by split
    left_out:        (file, reason, sentence that says why it was not used), in order of file
    reasons:         how many files were not used, by reason
    notes, windows:  how many were changed or left out of the files used, by reason; `kept_notes`: how many stayed
    triplets:        how many notes of triplets the grid moved
    meters:          how many files were used, by meter; `other_meters`: how many were not used for their meter
    remarks:         what else the readers said of files that were used
    """

    files: Counter = field(default_factory=Counter)
    left_out: list[tuple[Path, str, str]] = field(default_factory=list)
    reasons: Counter = field(default_factory=Counter)
    kept_notes: int = 0
    notes: Counter = field(default_factory=Counter)
    windows: Counter = field(default_factory=Counter)
    triplets: int = 0
    meters: Counter = field(default_factory=Counter)
    other_meters: Counter = field(default_factory=Counter)
    remarks: Counter = field(default_factory=Counter)

    def leave_out(self, path: Path, reason: str, sentence: str) -> None:
        """Note that a file is not used."""
        self.left_out.append((path, reason, sentence))
        self.reasons[reason] += 1


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
    melody: Melody, bars: int, steps_per_bar: int, steps_per_quarter: int, meter: tuple[int, int] | None = None
) -> tuple[list[np.ndarray], int]:
    """All windows of the parts whose meter has `steps_per_bar` steps per bar, and how many notes begin in no window.

    The windows lie between the bar of the first and the bar of the last note of each part. The last bar of the melody
    is completed by silence; a bar that a change of meter cuts short is not used. With `meter`, only parts in this meter
    are used.
    """
    cut_as = Cut(bars, steps_per_bar, steps_per_quarter, meter=meter)
    windows: list[np.ndarray] = []
    melody_notes = melody.notes
    unused = len(melody_notes)
    ends = [step for step, _, _ in melody.meters[1:]] + [Fraction(melody.length)]
    for (start, numerator, denominator), end in zip(melody.meters, ends, strict=True):
        notes = [note for note in melody_notes if start <= note.start < end]
        if not cut_as.takes((numerator, denominator)) or start.denominator != 1 or not notes:
            continue
        origin = int(start)
        first = origin + (notes[0].start - origin) // steps_per_bar * steps_per_bar
        last = origin - (origin - notes[-1].end) // steps_per_bar * steps_per_bar
        if end < melody.length:
            last = min(last, origin + (int(end) - origin) // steps_per_bar * steps_per_bar)
        tokens = encode_notes(melody_notes, max(melody.length, last))
        cut = list(cut_windows(tokens[first:last], bars, steps_per_bar))
        windows.extend(cut)
        unused -= len(notes) if cut else 0
    return windows, unused


class Collector:
    """Gathers the windows of one melody after another, then splits them by melody."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.start = resolve_start(cut.start, cut.bars)
        self.account = Account()
        self._found: list[tuple[str, list[np.ndarray]]] = []

    def add(self, path: Path, key: str, label: object, melody: Melody, changes: Counter) -> bool:
        """Cut the windows of a melody; False if it has none, which is noted.

        Args:
            path: of the file.
            key: what decides the split: melodies of one key go to one split.
            label: its name, for messages.
            melody: the melody.
            changes: how many of its notes were changed, by what was done to them.
        """
        cut = self.cut
        windows, unused = melody_windows(melody, cut.bars, cut.steps, cut.steps_per_quarter, cut.meter)
        kinds = list(dict.fromkeys((beats, unit) for _, beats, unit in melody.meters))
        if not windows:
            names = ", ".join(f"{beats}/{unit}" for beats, unit in kinds)
            if any(cut.takes(kind) for kind in kinds):
                reason = f"no {cut.bars} bars of {cut.steps} steps on end"
            else:
                reason = "of another meter"
                self.account.other_meters[kinds[0]] += 1
            self.account.leave_out(path, reason, f"{label}: {reason} (meter {names}; {melody.length} steps)")
            return False
        if cut.common_key:
            shift = keys.common_key_shift(encode_notes(melody.notes, melody.length))
            windows = [keys.transposed(window, shift) for window in windows]
        self._found.append((key, windows))
        self.account.meters[next(kind for kind in kinds if cut.takes(kind))] += 1
        self.account.kept_notes += len(melody.notes) - unused
        self.account.notes += changes + Counter({"in parts of another meter or too short": unused})
        return True

    def splits(self) -> dict[str, list[np.ndarray]]:
        """The distinct windows of each split; the account is complete after that."""
        split_of = split_by_name(key for key, _ in self._found)
        self.account.files = Counter(split_of[key] for key, _ in self._found)
        splits: dict[str, list[np.ndarray]] = {}
        for split in SPLITS:
            mine = (window for key, windows in self._found if split_of[key] == split for window in windows)
            splits[split], reasons = select_windows(mine, self.start)
            self.account.windows += reasons
        return splits


def find_music(paths: Iterable[str | PathLike]) -> list[Path]:
    """The files named, and the MIDI, ABC and MusicXML files in the folders named and below.

    Raises `ValueError` if there is none, or a file that is named has the suffix of none of these.
    """
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            inside = [file for file in path.rglob("*") if music.kind_of(file) and file.is_file()]
            if not inside:
                raise ValueError(f"{path} has no MIDI, ABC or MusicXML files in it")
            found.update(inside)
        elif not path.exists():
            raise ValueError(f"{path} does not exist")
        elif music.kind_of(path) is None:
            known = ", ".join(suffix for suffixes in music.KINDS.values() for suffix in suffixes)
            raise ValueError(f"{path} is no MIDI, ABC or MusicXML file: its name must end in {known}")
        else:
            found.add(path)
    return sorted(found)


def music_windows(
    paths: Iterable[str | PathLike], cut: Cut, voice: str | None = None
) -> tuple[dict[str, list[np.ndarray]], Account]:
    """The windows of each split of all tunes in the files, and the account.

    Tunes of one title go to one split, for they are versions of one tune. Of a file with several voices `voice` says
    which to take; without it, a single melody above chords is taken, and any other such file is left out.
    """
    collector = Collector(cut)
    account = collector.account
    for path in find_music(paths):
        tunes, failures = music.read_all(
            path, voice=voice, steps_per_quarter=cut.steps_per_quarter, take_likely=voice is None
        )
        for failure in failures:
            account.leave_out(path, failure.reason, str(failure))
        for tune in tunes:
            label = path if len(tunes) == 1 else f"{path}, {tune.name}"
            if collector.add(path, _key(path, tune), label, tune, tune.changes):
                account.triplets += tune.triplets
                account.remarks.update(_kind_of_remark(remark) for remark in tune.remarks)
    return collector.splits(), account


def _key(path: Path, tune: Tune) -> str:
    return path.name if tune.name == path.stem else " ".join(tune.name.lower().split())


def _kind_of_remark(remark: str) -> str:
    """A remark without its numbers and names, to count by."""
    if remark.startswith("not read: voice"):
        return "not read: other voices"
    words = "".join(" " if letter.isdigit() else letter for letter in remark.split("(")[0].split(";")[0])
    return " ".join(words.split()).rstrip(":")


def fill_splits(splits: dict[str, list[np.ndarray]]) -> dict[str, int]:
    """Give an empty valid or test split windows of train, in place; how many each got.

    They are chosen by a hash of what they hold. Raises `ValueError` if train has too few windows to give any.
    """
    needy = [split for split in SPLITS[1:] if not splits[split]]
    moved: dict[str, int] = {}
    for split in needy:
        train = splits["train"]
        count = max(1, len(train) // _LEAST_SHARE)
        if len(train) < 2:
            raise ValueError(
                f"nothing is written, for the {' and the '.join(needy)} split would be empty: give more music, or try "
                "fewer --bars or --start any"
            )
        chosen = set(sorted(range(len(train)), key=lambda place: _place(train[place].tobytes().hex()))[:count])
        splits[split] = [window for place, window in enumerate(train) if place in chosen]
        splits["train"] = [window for place, window in enumerate(train) if place not in chosen]
        moved[split] = count
    return moved
