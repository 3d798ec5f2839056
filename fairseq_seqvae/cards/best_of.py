"""Best-of-n without training: the best of n draws, by a score that takes few values.

A draw of score s is kept if no other of the n is better; among equals, chance decides. So within one score the
distribution does not change, and the divergence from one draw is that of the scores alone: exact, where the usual
formula log n - (n - 1) / n (Stiennon et al. 2020; Beirami et al. 2024) is a bound, which is reached if no two draws
score the same.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """The distribution of the score of one draw.

    Attributes:
        values: (L,), the different scores, ascending
        shares: (L,), how many of all draws have each; none is 0
    """

    values: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, scores: Sequence[float] | np.ndarray) -> "Scores":
        """Of a sample of draws."""
        values, counts = np.unique(np.asarray(scores, dtype=float), return_counts=True)
        return cls(values, counts / counts.sum())

    def best_of(self, n: float) -> np.ndarray:
        """Shares (L,) of the scores among the best of *n* draws; n need not be whole."""
        below = np.concatenate([[0.0], np.cumsum(self.shares)[:-1], [1.0]])
        return np.diff(below**n)

    def share_met(self, threshold: float, n: float = 1) -> float:
        """Share of the best of *n* that score at least *threshold*."""
        return float(self.best_of(n)[self.values >= threshold].sum())

    def divergence(self, n: float) -> float:
        """Of the best of *n* from one draw, nats."""
        best = self.best_of(n)
        kept = best > 0
        return float((best[kept] * np.log(best[kept] / self.shares[kept])).sum())

    def shift_of_nll(self, n: float, scores: Iterable[float]) -> float | None:
        """What best-of-n adds to the NLL of sequences with these *scores*, nats; None if draws never score so."""
        ratios = dict(zip(self.values.tolist(), (self.best_of(n) / self.shares).tolist(), strict=True))
        found = [ratios.get(score) for score in scores]
        known = [ratio for ratio in found if ratio]
        return -sum(map(math.log, known)) / len(known) if known and len(known) == len(found) else None


def draws_needed(one: float, wanted: float) -> float | None:
    """n for which the best of n meets a rule with probability *wanted*, if one draw does with probability *one*."""
    if not 0 < one < 1 or not one <= wanted < 1:
        return None
    return math.log1p(-wanted) / math.log1p(-one)


def least_divergence(one: float, wanted: float) -> float | None:
    """Divergence, nats, below which no policy meets a rule with probability *wanted* if the reference does with *one*.

    It is that of two coins: a policy that draws as the reference does, given that the rule is met, and given that it is
    not. Best-of-n is such a policy.
    """
    if not 0 < one < 1 or not 0 < wanted < 1:
        return None
    return wanted * math.log(wanted / one) + (1 - wanted) * math.log((1 - wanted) / (1 - one))


def usual_bound(n: float) -> float:
    """log n - (n - 1) / n, nats."""
    return math.log(n) - (n - 1) / n
