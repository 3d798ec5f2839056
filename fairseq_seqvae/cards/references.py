"""What the methods of a card are compared with: the best maximum likelihood, and its mixed temperatures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MIXTURE_WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)


def value_at(points: Sequence[Mapping[str, float]], oracle_nll: float, key: str = "held_out_nll") -> float | None:
    """The value *key* of a curve over temperatures where its samples have this oracle NLL; None beyond its ends.

    Monotone cubic between neighbouring temperatures: these curves are convex, and chords would lie above them.
    """
    from scipy.interpolate import PchipInterpolator

    by_quality = {point["oracle_nll"]: point[key] for point in points}
    xs = sorted(by_quality)
    if not xs or not xs[0] <= oracle_nll <= xs[-1]:
        return None
    if len(xs) == 1:
        return float(by_quality[xs[0]])
    return float(PchipInterpolator(xs, [by_quality[x] for x in xs])(oracle_nll))


def best_likelihood(cells: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> str | None:
    """That of *methods* whose held-out NLL at temperature 1, a mean over its seeds, is lowest; None if none is there.

    Args:
        cells: of one length
        methods: kinds of maximum likelihood
    """
    found: dict[str, list[float]] = {}
    for cell in cells:
        if cell["method"] in methods:
            found.setdefault(cell["method"], []).append(_plain(cell["points"])["held_out_nll"])
    most = max(map(len, found.values()), default=0)  # one of fewer seeds leaves others without anything to compare with
    means = {method: float(np.mean(values)) for method, values in found.items() if len(values) == most}
    return min(means, key=lambda method: means[method]) if means else None


def _plain(points: Sequence[Any]) -> Any:
    return next(point for point in points if point["temperature"] == 1)


def temperature_mixture(sequences: Mapping[str, np.ndarray], weight: float) -> dict[str, float]:
    """A model that draws each sequence sharply with probability *weight*, else at temperature 1.

    Both numbers of such a mixture are known from those of its parts, sequence by sequence: so it shows what a pair of
    numbers is worth that nobody has learned anything for.

    Args:
        sequences: sequences.npz of a cell
        weight: chance of the lowest temperature
    """
    taus = sequences["temperatures"]
    sharp, plain = int(taus.argmin()), int(np.flatnonzero(taus == 1)[0])
    log_likelihood = np.logaddexp(
        math.log(weight) + sequences["log_likelihood"][:, sharp],
        math.log1p(-weight) + sequences["log_likelihood"][:, plain],
    )
    quality = sequences["oracle_nll"].mean(axis=1, dtype=np.float64)  # as in the points of the curve
    return {
        "sharp_temperature": float(taus[sharp]),
        "weight": weight,
        "oracle_nll": float(weight * quality[sharp] + (1 - weight) * quality[plain]),
        "held_out_nll": float(-log_likelihood.sum() / sequences["lengths"].sum()),
    }


def mixed_curve(sequences: Mapping[str, np.ndarray], points: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The line of mixed temperatures of one cell, with both ends; empty where no temperature is below 1.

    Args:
        sequences: sequences.npz of the cell
        points: of its curve over temperatures
    """
    if min(sequences["temperatures"]) >= 1:
        return []
    inner = [temperature_mixture(sequences, weight) for weight in MIXTURE_WEIGHTS]
    ends = [_plain(points), min(points, key=lambda point: point["temperature"])]
    return inner + [{key: end[key] for key in ("oracle_nll", "held_out_nll")} for end in ends]
