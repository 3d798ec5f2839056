"""A picture of verdicts beside that of real melodies. Needs matplotlib (the extra `plot`), but no display."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from fairseq_seqvae.melody.judges import MEASURES, Verdict
from fairseq_seqvae.melody.plot import SUFFIXES, require_figure
from fairseq_seqvae.support.files import whole_file

_COLOURS = ("#33658a", "#d1495b", "#6a994e", "#8e5572", "#bc6c25", "#2a9d8f")
_REAL = "#3c4650"
_RARE = 0.002  # the picture ends where all shares are smaller
_WIDEST = 3.0  # standard deviations


def plot_verdicts(verdicts: Mapping[str, Verdict], real: Verdict, path: str | PathLike, title: str = "") -> None:
    """Draw distances from real melodies and the two histograms, and write a .png or .svg.

    Args:
        verdicts: by the name of the set.
        real: of held-out real melodies.
        path: of the picture.
        title: heading.

    Raises `ValueError` for another suffix.
    """
    figure_class = require_figure()
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} must end in {' or '.join(SUFFIXES)}")
    figure = figure_class(figsize=(12, 4.6), facecolor="white")
    distances, lengths, intervals = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
    _draw_distances(distances, verdicts, real)
    _draw_shares(lengths, [v.lengths for v in verdicts.values()], real.lengths, "length of a note in steps")
    _draw_shares(
        intervals, [v.intervals for v in verdicts.values()], real.intervals, "interval in semitones, up is right"
    )
    lengths.set_ylabel("share")
    handles, _ = intervals.get_legend_handles_labels()
    names = ["real, held out", *verdicts]
    figure.legend(handles, names, loc="lower center", ncols=min(len(names), 5), frameon=False, fontsize=8)
    figure.suptitle(title or "Generated melodies beside real ones", x=0.02, ha="left", fontsize=13, color=_REAL)
    figure.tight_layout(rect=(0, 0.06, 1, 0.98))
    metadata = {"Date": None} if Path(path).suffix.lower() == ".svg" else None
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=150, metadata=metadata)


def _draw_distances(axes, verdicts: Mapping[str, Verdict], real: Verdict) -> None:
    """A dot per measure: how far its mean is from that of real melodies, in their standard deviations."""
    names = [measure.name for measure in MEASURES if real.spreads.get(measure.name, 0) > 0]
    for number, verdict in enumerate(verdicts.values()):
        far = [(verdict.values[name] - real.values[name]) / real.spreads[name] for name in names]
        shown = [max(-_WIDEST, min(_WIDEST, value)) if not math.isnan(value) else math.nan for value in far]
        axes.plot(shown, range(len(names)), "o", color=_COLOURS[number % len(_COLOURS)], markersize=5, alpha=0.85)
    axes.axvline(0, color=_REAL, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(-_WIDEST - 0.2, _WIDEST + 0.2), ylim=(max(len(names), 1) - 0.5, -0.5))
    _finish(axes, "from the mean of real melodies, in their standard deviations")


def _draw_shares(axes, shares: Sequence[dict[int, float]], real: dict[int, float], label: str) -> None:
    seen = [*real, *(value for share in shares for value in share)]
    values = range(min(seen, default=0), max(seen, default=0) + 1)
    heights = [real.get(value, 0) for value in values]
    axes.fill_between(values, heights, step="mid", color=_REAL, alpha=0.25, linewidth=0, label="real")
    for number, share in enumerate(shares):
        axes.step(
            values,
            [share.get(value, 0) for value in values],
            where="mid",
            color=_COLOURS[number % len(_COLOURS)],
            label=str(number),
        )
    frequent = [value for histogram in (real, *shares) for value, share in histogram.items() if share >= _RARE]
    axes.set_xlim(min(frequent, default=0) - 1, max(frequent, default=0) + 1)
    axes.set_ylim(bottom=0)
    _finish(axes, label)


def _finish(axes, label: str) -> None:
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(length=0, labelsize=8)
    axes.grid(color="#e6eaee", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
