"""How far noisy estimates of a vector are from it, where the vector itself is known only from such estimates."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Judgement(NamedTuple):
    """What single estimates of one kind are worth; g is the true vector.

    Attributes:
        estimates: how many there were
        seconds: mean CPU seconds of one
        cosine: of the angle between an estimate and g: E<g_est, g> / sqrt(E|g_est|^2 |g|^2)
        error: E|g_est - g|^2 / |g|^2, of a biased kind with the best factor: 1 / cosine^2 - 1; infinite where the
            angle is obtuse
    """

    estimates: int
    seconds: float
    cosine: float
    error: float

    @property
    def signal(self) -> float:
        """1 / (error x seconds): signal to noise of the mean of as many estimates as fit into a second."""
        return 1 / (self.error * self.seconds)


class Sketch:
    """A linear map to fewer numbers that keeps inner products in expectation (count sketch; Charikar et al. 2002).

    Args:
        dim: P, of what is mapped
        size: numbers that are kept; vectors of that size or less stay as they are
    """

    def __init__(self, dim: int, size: int = 1 << 16):
        self.size = size
        generator = torch.Generator().manual_seed(1)
        self.exact = dim <= size
        self.buckets = torch.randint(size, (0 if self.exact else dim,), generator=generator)
        self.signs = torch.randint(2, (0 if self.exact else dim,), generator=generator).mul_(2).sub_(1).float()

    def __call__(self, vector: Tensor) -> Tensor:
        """*vector* (P,) in fewer numbers."""
        if self.exact:
            return vector.clone()
        return torch.zeros(self.size).index_add_(0, self.buckets, self.signs * vector)


def judge(
    estimates: Mapping[str, Tensor], seconds: Mapping[str, float], biased: frozenset[str] = frozenset()
) -> dict[str, Judgement]:
    """Judge kinds of estimates by all unbiased ones together.

    Nothing is compared with itself: inner products are of different estimates only, so no noise is taken for signal.

    Args:
        estimates: of each kind (n, P), n >= 2, independent of each other
        seconds: CPU seconds of one estimate
        biased: kinds whose mean is another vector, which say nothing of the true one

    Raises:
        ValueError: the estimates are too noisy to tell the true vector from 0
    """
    found = {name: rows.double() for name, rows in estimates.items()}
    # Each kind counts by its precision.
    weights = {n: 0.0 if n in biased else 1 / float(rows.var(dim=0).sum()) for n, rows in found.items()}
    total = torch.stack([weights[name] * rows.sum(dim=0) for name, rows in found.items()]).sum(dim=0)
    weight = sum(weights[name] * len(rows) for name, rows in found.items())
    squares = sum(weights[name] ** 2 * rows.square().sum() for name, rows in found.items())
    norm = float((total.square().sum() - squares) / (weight**2 - sum(w**2 * len(found[n]) for n, w in weights.items())))
    if norm <= 0:
        raise ValueError("the true gradient cannot be told from 0: measure for longer, or with larger batches.")
    result = {}
    for name, rows in found.items():
        power = float(rows.square().sum(dim=1).mean())
        # Without bias the overlap is the norm in expectation, which is known more exactly.
        overlap = float((rows @ total).mean()) / weight if name in biased else norm
        cosine = overlap / math.sqrt(power * norm)
        error = 1 / cosine**2 - 1 if cosine > 0 else math.inf
        result[name] = Judgement(len(rows), seconds[name], cosine, error)
    return result
