"""Labels of windows, for models that know them: the meter or the mode of the tune that a window is from."""

from collections import Counter
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairseq_seqvae.melody.windows import SPLITS, Tune, cut_windows, resolve_start, select_windows
from fairseq_seqvae.support.files import whole_file

_MODES = {"": "major", "maj": "major", "m": "minor", "min": "minor", "dor": "dorian", "mix": "mixolydian"}
_MODES |= {"lyd": "lydian", "phr": "phrygian", "loc": "locrian"}


def meter_of(tune: Tune) -> str:
    """The meter as two numbers: C is 4/4 and C| is 2/2."""
    return {"C": "4/4", "C|": "2/2"}.get(tune.meter, tune.meter)


def mode_of(tune: Tune) -> str:
    """The mode by its name, such as "minor" for Gm.

    Raises:
        ValueError: the key of the tune is not written as in ABC
    """
    ending = tune.key[1:].lstrip("#b").strip().lower()[:3]
    if tune.key[:1].upper() not in tuple("ABCDEFG") or ending not in _MODES:
        raise ValueError(f"tune {tune.id} has the key {tune.key!r}, which is not written as in ABC, such as G or Ador.")
    return _MODES[ending]


KINDS: dict[str, Callable[[Tune], str]] = {"meter": meter_of, "mode": mode_of}


class LabelledWindows(NamedTuple):
    """Windows and labels of each split, in one order, and how many windows were left out for which reason."""

    windows: dict[str, list[np.ndarray]]
    labels: dict[str, list[str]]
    left_out: Counter[str]


def labelled_windows(
    tunes: Iterable[Tune], kind: str, bars: int, steps_per_bar: int = 16, start: str = "auto"
) -> LabelledWindows:
    """The windows of `windows.tune_windows` with their labels; those that tunes of two labels have are left out.

    Args:
        kind: one of `KINDS`

    Raises:
        ValueError: see :func:`mode_of`
    """
    tunes, start = [tune for tune in tunes if tune.steps_per_bar == steps_per_bar], resolve_start(start, bars)
    found = LabelledWindows({}, {}, Counter())
    for split in SPLITS:
        cut: dict[str, list[np.ndarray]] = {}
        for tune in tunes:
            if tune.split == split:
                cut.setdefault(KINDS[kind](tune), []).extend(cut_windows(tune.tokens, bars, steps_per_bar))
        labels_of: dict[bytes, list[str]] = {}
        for label in sorted(cut):
            kept, reasons = select_windows(cut[label], start)
            found.left_out.update(reasons)
            for window in kept:
                labels_of.setdefault(window.tobytes(), []).append(label)
        clear = [window for window in sorted(labels_of) if len(labels_of[window]) == 1]
        found.left_out.update(["of several labels"] * (len(labels_of) - len(clear)))
        found.windows[split] = [np.frombuffer(window, dtype=np.uint8) for window in clear]
        found.labels[split] = [labels_of[window][0] for window in clear]
    return found


def label_paths(folder: str | PathLike) -> list[Path]:
    """The files that `write_labels` writes."""
    return [Path(folder, f"{split}.label.txt") for split in SPLITS]


def write_labels(labels: dict[str, list[str]], folder: str | PathLike) -> None:
    """Write train.label.txt, valid.label.txt and test.label.txt into a folder that is there, one label per line."""
    for split, path in zip(SPLITS, label_paths(folder), strict=True):
        with whole_file(path) as partial:
            partial.write_text("".join(f"{label}\n" for label in labels[split]), encoding="utf-8", newline="\n")
