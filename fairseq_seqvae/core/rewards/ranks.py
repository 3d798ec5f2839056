"""Whether two scores put sequences into the same order."""

import torch
from torch import Tensor


def rank_correlation(first: Tensor, second: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Spearman's rank correlation of two scores, and the number of sequences that it is of; two scalars, float64.

    Ties have their mean rank. Where all counted scores of one kind are equal there is no order: then both are 0.

    Args:
        first: (R,)
        second: (R,)
        counted: (R,) bool, the sequences that both scores are of
    """
    weights = counted.double()
    count = weights.sum()
    a, b = (_centred_ranks(scores.double(), weights) for scores in (first, second))
    spread = (a.square().sum() * b.square().sum()).sqrt()
    has_order = spread > 0
    correlation = torch.where(has_order, (a * b).sum() / spread.clamp(min=1e-300), 0.0)
    return correlation, torch.where(has_order, count, 0.0)


def _centred_ranks(scores: Tensor, weights: Tensor) -> Tensor:
    """Ranks among the sequences of weight 1 less their mean, (R,); 0 for the others."""
    below = (scores.unsqueeze(0) < scores.unsqueeze(1)).double() + (scores.unsqueeze(0) == scores.unsqueeze(1)) / 2
    ranks = (below * weights).sum(dim=1)
    mean = (ranks * weights).sum() / weights.sum().clamp(min=1)
    return (ranks - mean) * weights
