"""Pictures of melodies as piano rolls. Needs matplotlib (the extra `plot`), but no display."""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from fairseq_seqvae.melody.tokens import Note, decode_notes
from fairseq_seqvae.support.files import whole_file

SUFFIXES = (".png", ".svg")
MAX_PANELS = 64

_NOTE = "#33658a"
_INK = "#3c4650"
_MUTED = "#8a949e"
_PAPER = "#f7f8fa"
_BAR_LINE = "#c3cad2"
_BEAT_LINE = "#e6eaee"


def require_figure():
    """matplotlib's figure, which draws without a display; `ImportError` that says what to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install matplotlib") from error
    return Figure


def plot_samples(
    melodies: Sequence[Sequence[int] | np.ndarray],
    path: str | PathLike,
    *,
    labels: Sequence[str] | None = None,
    title: str = "",
    steps_per_bar: int = 16,
    steps_per_beat: int = 4,
) -> None:
    """Draw melodies (tokens) as a grid of piano rolls with one pitch range, and write a .png or .svg.

    `labels` stand above the panels. Raises `ValueError` for no or more than `MAX_PANELS` melodies, melodies without any
    note, or another suffix.
    """
    _draw(melodies, path, labels or [""] * len(melodies), title, steps_per_bar, steps_per_beat, as_column=False)


def plot_interpolation(
    melodies: Sequence[Sequence[int] | np.ndarray],
    path: str | PathLike,
    *,
    places: Sequence[float] | None = None,
    title: str = "",
    steps_per_bar: int = 16,
    steps_per_beat: int = 4,
) -> None:
    """Draw melodies (tokens) from first to last in one column.

    The left margin gives the places on the way, from 0 to 1, by default in equal steps. Raises `ValueError` as
    `plot_samples` does.
    """
    if places is None:
        places = [index / max(len(melodies) - 1, 1) for index in range(len(melodies))]
    _draw(melodies, path, [f"{place:.2f}" for place in places], title, steps_per_bar, steps_per_beat, as_column=True)


def _draw(melodies, path, labels, title: str, steps_per_bar: int, steps_per_beat: int, as_column: bool) -> None:
    figure_class = require_figure()
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} must end in {' or '.join(SUFFIXES)}")
    if not 1 <= len(melodies) <= MAX_PANELS:
        raise ValueError(f"a picture holds 1 to {MAX_PANELS} melodies, not {len(melodies)}")
    rolls = [decode_notes(tokens) for tokens in melodies]
    pitches = [note.pitch for notes in rolls for note in notes]
    if not pitches:
        raise ValueError("there are no notes to draw")
    low = min(pitches) - 2
    high = max(max(pitches) + 2, low + 14)  # more than an octave, so that there is a C to label
    bars = math.ceil(max(len(tokens) for tokens in melodies) / steps_per_bar)
    columns = 1 if as_column or bars > 8 or len(melodies) == 1 else 2
    rows = math.ceil(len(rolls) / columns)

    # All lengths in inches, from the left and the bottom edge.
    panel_width = min(max((4.2 if columns == 2 else 6.5), bars * steps_per_bar / 22), 12.0 / columns)
    panel_height = min(max(0.8, (high - low) * 0.05), 1.0 if as_column else 1.5)
    left, right, bottom, gap_x, gap_y = 0.95 if as_column else 0.55, 0.25, 0.4, 0.3, 0.12 if as_column else 0.42
    top = (0.15 if as_column else 0.35) + (0.4 if title else 0)
    width = left + right + columns * panel_width + (columns - 1) * gap_x
    height = top + bottom + rows * panel_height + (rows - 1) * gap_y
    figure = figure_class(figsize=(width, height), facecolor="white")
    figure.text(left / width, 1 - 0.17 / height, title, va="top", fontsize=13, color=_INK, weight="bold")
    for index, (notes, label) in enumerate(zip(rolls, labels, strict=True)):
        row, column = divmod(index, columns)
        x = left + column * (panel_width + gap_x)
        y = height - top - panel_height - row * (panel_height + gap_y)
        axes = figure.add_axes((x / width, y / height, panel_width / width, panel_height / height))
        axes.set(xlim=(0, bars * steps_per_bar), ylim=(low, high))
        _draw_roll(axes, notes, len(melodies[index]), steps_per_bar, steps_per_beat)
        _draw_ticks(axes, low, high, bars, steps_per_bar, leftmost=column == 0, lowest=index + columns >= len(rolls))
        at, ha, va = ((-0.45 / panel_width, 0.5), "right", "center") if as_column else ((0, 1.06), "left", "bottom")
        axes.text(*at, label, transform=axes.transAxes, ha=ha, va=va, fontsize=8.5, color=_INK)
    metadata = {"Date": None} if Path(path).suffix.lower() == ".svg" else None
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=160, metadata=metadata)


def _draw_roll(axes, notes: Sequence[Note], length: int, steps_per_bar: int, steps_per_beat: int) -> None:
    axes.set_facecolor(_PAPER)
    for step in range(0, length + 1, steps_per_beat):
        on_bar = step % steps_per_bar == 0
        axes.axvline(step, color=_BAR_LINE if on_bar else _BEAT_LINE, linewidth=0.9 if on_bar else 0.6, zorder=1)
    # The gap at the end of a note keeps repeated notes apart. Taller than a semitone: no two notes sound at a time.
    for note in notes:
        axes.broken_barh([(note.start + 0.06, note.length - 0.22)], (note.pitch - 0.65, 1.3), facecolor=_NOTE, zorder=3)


def _draw_ticks(axes, low: int, high: int, bars: int, steps_per_bar: int, *, leftmost: bool, lowest: bool) -> None:
    """Lines at each C, and at the outer panels the names of these and the numbers of the bars."""
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    axes.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves])
    for pitch in octaves:
        axes.axhline(pitch, color=_BEAT_LINE, linewidth=0.8, zorder=1)
    numbered = range(0, bars, max(1, bars // 16))
    axes.set_xticks([bar * steps_per_bar for bar in numbered], [str(bar + 1) for bar in numbered])
    axes.tick_params(length=0, labelsize=7.5, labelcolor=_MUTED, labelleft=leftmost, labelbottom=lowest, pad=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=_BAR_LINE, linewidth=0.9)
