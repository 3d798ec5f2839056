"""A mean over seeds with its interval, and how it stands in a table."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Spread(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: over seeds
        half_width: of its 95 % interval by Student's t; None for a single seed
        seeds: how many
    """

    mean: float
    half_width: float | None
    seeds: int


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and interval; None of no values."""
    if not values:
        return None
    count = len(values)
    if count == 1:
        return Spread(float(values[0]), None, 1)
    from scipy import stats

    half_width = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)
    return Spread(float(np.mean(values)), float(half_width), count)


def plain(value: Any) -> Any:
    """Spreads as dictionaries, wherever they are in *value*."""
    if isinstance(value, Spread):
        return value._asdict()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


# -- as text --


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def number(value: Spread | None, digits: int) -> str:
    """Mean and interval; - if there is none."""
    if value is None:
        return "-"
    interval = "" if value.half_width is None else f" ± {value.half_width:.{digits}f}"
    return f"{value.mean:.{digits}f}{interval}"


def gap(value: Spread | None, seeds: int, digits: int = 3) -> str:
    """A difference with its sign; n tells how many of the *seeds* have one, if not all."""
    if value is None:
        return "-"
    interval = "" if value.half_width is None else f" ± {value.half_width:.{digits}f}"
    return f"{value.mean:+.{digits}f}{interval}{f' (n = {value.seeds})' if value.seeds < seeds else ''}"


def share(part: float, whole: float) -> str:
    """In per cent; - of nothing."""
    return f"{part / whole:.1%}" if whole else "-"
