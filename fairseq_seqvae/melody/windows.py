"""Windows of N bars, the training lines of melody models, cut from tunes."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairseq_seqvae.melody.tokens import (
    MAX_STEPS,
    SYMBOLS,
    Note,
    begins_with_note,
    encode_notes,
    format_line,
    has_notes,
)
from fairseq_seqvae.melody.tunes import same_meter
from fairseq_seqvae.support.files import whole_file

SPLITS = ("train", "valid", "test")
STARTS = ("auto", "onset", "any")
_COLUMNS = ["id", "split", "meter", "key", "steps_per_bar", "notes"]


class Tune(NamedTuple):
    """One tune of a `tunes.tsv`: `tokens` is uint8 (T,), T a multiple of `steps_per_bar`."""

    id: str
    split: str
    meter: str
    key: str
    steps_per_bar: int
    tokens: np.ndarray


def tables(paths: Iterable[str | PathLike]) -> list[Path]:
    """The tables of tunes among *paths*: files as they are, and the .tsv files of folders.

    Raises:
        ValueError: a folder has none
    """
    found: list[Path] = []
    for path in map(Path, paths):
        own = sorted(path.glob("*.tsv")) if path.is_dir() else [path]
        if not own:
            raise ValueError(f"{path} holds no .tsv file: give tables of tunes, or a folder with some.")
        found += own
    return found


def read_tunes(path: str | PathLike) -> list[Tune]:
    """The tunes of a table with the columns id, split, meter, key, steps_per_bar, notes, separated by tabs.

    `notes` is a list of `pitch:steps`, separated by blanks: a MIDI pitch, or `r` or `_` for a rest (`_`: before the
    pickup). Raises `ValueError`, with the line number, for anything else.
    """
    tunes = []
    with open(path, encoding="utf-8", errors="replace") as file:
        header = file.readline().rstrip("\n").split("\t")
        if [name.split(" ")[0] for name in header] != _COLUMNS:
            raise ValueError(f"{path} is no table of tunes: its first line must name the columns {', '.join(_COLUMNS)}")
        for number, line in enumerate(file, start=2):
            try:
                tunes.append(_parse_tune(line.rstrip("\n")))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return tunes


def _parse_tune(line: str) -> Tune:
    fields = line.split("\t")
    if len(fields) != len(_COLUMNS):
        raise ValueError(f"expected {len(_COLUMNS)} columns separated by tabs but found {len(fields)}")
    name, split, meter, key, steps_per_bar, events = fields
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)} but is {split!r}")
    notes, step = [], 0
    for event in events.split():
        pitch, _, length = event.partition(":")
        if not (pitch in ("r", "_") or pitch.isdecimal()) or not length.isdecimal():
            raise ValueError(f"note {event!r} must have the form pitch:steps, r:steps or _:steps")
        if pitch.isdecimal():
            notes.append(Note(int(pitch), step, int(length)))
        step += int(length)
        if step > MAX_STEPS:
            raise ValueError(f"the notes last more than {MAX_STEPS} steps")
    if not steps_per_bar.isdecimal() or int(steps_per_bar) < 1 or step % int(steps_per_bar):
        raise ValueError(f"the notes last {step} steps, which is no whole number of bars of {steps_per_bar} steps")
    return Tune(name, split, meter, key, int(steps_per_bar), encode_notes(notes, step))


def is_in_meter(tune: Tune, meter: tuple[int, int]) -> bool:
    """Whether a tune is in this meter, as printed in its column: C is 4/4 and C| is 2/2, which counts as 4/4."""
    printed = {"C": "4/4", "C|": "2/2"}.get(tune.meter, tune.meter)
    beats, _, unit = printed.partition("/")
    return beats.isdecimal() and unit.isdecimal() and int(unit) > 0 and same_meter((int(beats), int(unit)), meter)


def cut_windows(tokens: np.ndarray, bars: int, steps_per_bar: int = 16) -> Iterator[np.ndarray]:
    """All windows, (bars * steps_per_bar,), that begin at a bar line and lie within the melody (hop: one bar).

    A note that sounds on from the bar before is not struck again: the window begins with holds, that is silence.
    """
    if bars < 1 or steps_per_bar < 1:
        raise ValueError(f"`bars` ({bars}) and `steps_per_bar` ({steps_per_bar}) must be at least 1")
    width = bars * steps_per_bar
    for start in range(0, len(tokens) - width + 1, steps_per_bar):
        yield tokens[start : start + width]


def resolve_start(start: str, bars: int) -> str:
    """`auto` means `onset` for windows of at most 4 bars, where a lead-in bar would be much, and `any` for longer."""
    if start not in STARTS:
        raise ValueError(f"`start` must be one of {', '.join(STARTS)} but is {start!r}")
    return ("onset" if bars <= 4 else "any") if start == "auto" else start


def select_windows(windows: Iterable[np.ndarray], start: str) -> tuple[list[np.ndarray], Counter]:
    """The distinct windows in the order of their tokens, and how many were left out for which reason.

    `start` is `onset` to keep only windows whose first step begins a note, or `any`. Windows without any note are
    never kept.
    """
    kept: set[bytes] = set()
    left_out: Counter = Counter()
    for window in windows:
        key = window.astype(np.uint8).tobytes()
        if not has_notes(window):
            left_out["without a note"] += 1
        elif start == "onset" and not begins_with_note(window):
            left_out["not beginning with a note"] += 1
        elif key in kept:
            left_out["repeated"] += 1
        else:
            kept.add(key)
    return [np.frombuffer(key, dtype=np.uint8) for key in sorted(kept)], left_out


def tune_windows(
    tunes: Iterable[Tune], bars: int, steps_per_bar: int = 16, start: str = "auto"
) -> tuple[dict[str, list[np.ndarray]], Counter]:
    """The windows of each split, as `select_windows` has them, and how many were left out for which reason.

    Only tunes with `steps_per_bar` steps per bar are used.
    """
    start = resolve_start(start, bars)
    cut: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for tune in tunes:
        if tune.steps_per_bar == steps_per_bar:
            cut[tune.split].extend(cut_windows(tune.tokens, bars, steps_per_bar))
    splits: dict[str, Any] = {}
    left_out: Counter[str] = Counter()
    for split in SPLITS:
        splits[split], reasons = select_windows(cut[split], start)
        left_out += reasons
    return splits, left_out


def split_paths(folder: str | PathLike) -> list[Path]:
    """The files of windows that `write_splits` writes."""
    return [Path(folder, f"{split}.txt") for split in SPLITS]


def dictionary_path(folder: str | PathLike) -> Path:
    """The dictionary of all symbols, which `write_splits` writes too."""
    return Path(folder, "dict.txt")


def shape_path(folder: str | PathLike) -> Path:
    """Where `write_splits` writes how long the windows and their bars are."""
    return Path(folder, "windows.json")


def written_paths(folder: str | PathLike) -> list[Path]:
    """All that `write_splits` writes."""
    return [*split_paths(folder), dictionary_path(folder), shape_path(folder)]


def read_steps_per_bar(folder: str | PathLike) -> int | None:
    """Steps of a bar of the windows in a folder, None where nothing says so.

    Raises:
        ValueError: `shape_path` holds anything else than `write_splits` writes
    """
    path = shape_path(folder)
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))["steps_per_bar"]
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError):
        steps = None
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"{path} does not say how many steps a bar has: cut the windows again, or give --meter.")
    return steps


def write_splits(splits: dict[str, list[np.ndarray]], folder: str | PathLike, steps_per_bar: int) -> None:
    """Write train.txt, valid.txt and test.txt, one window per line, dict.txt and windows.json into a folder.

    The folder is made if needed. windows.json says how many steps a bar has, see :func:`read_steps_per_bar`.

    The dictionary is for `fairseq-preprocess --srcdict`: with it a model knows every pitch, also those that only
    transposed windows have.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    for split, path in zip(SPLITS, split_paths(folder), strict=True):
        lines = (format_line(window) + "\n" for window in splits[split])
        with whole_file(path) as partial, open(partial, "w", encoding="ascii", newline="\n") as file:
            file.writelines(lines)
    with whole_file(dictionary_path(folder)) as partial:
        partial.write_text("".join(f"{symbol} 1\n" for symbol in SYMBOLS), encoding="ascii", newline="\n")
    with whole_file(shape_path(folder)) as partial:
        partial.write_text(json.dumps({"steps_per_bar": steps_per_bar}) + "\n", encoding="ascii")
