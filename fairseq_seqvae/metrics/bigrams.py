"""How far the samples of a model are from data, by counting: no discriminator, no training, any alphabet."""

import torch
from torch import Tensor

_FIRST_MULTIPLIER, _SECOND_MULTIPLIER = 2654435761, 40503


def bigram_counts(tokens: Tensor, mask: Tensor, buckets: int = 4096) -> Tensor:
    """Number of pairs of neighbouring tokens by hashed pair, (buckets,) float32.

    The start of a sequence counts as a token, so that first tokens are compared too.

    Args:
        tokens: (B, T)
        mask: (B, T), True = padding
        buckets: pairs are spread over this many; a few collisions only make the distance smaller
    """
    before = torch.cat([torch.full_like(tokens[:, :1], -1), tokens[:, :-1]], dim=1)
    bucket = (before * _FIRST_MULTIPLIER + tokens * _SECOND_MULTIPLIER).remainder(buckets)
    return torch.zeros(buckets, device=tokens.device).index_add_(
        0, bucket.flatten(), (~mask).flatten().to(torch.float32)
    )


def jensen_shannon(p_counts: Tensor, q_counts: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two count vectors (N,), nats: 0 if proportional, ln 2 if nothing is shared."""
    p = p_counts.double() / p_counts.sum().clamp(min=1e-12)
    q = q_counts.double() / q_counts.sum().clamp(min=1e-12)
    middle = (p + q) / 2

    def kl(a: Tensor) -> Tensor:
        return torch.xlogy(a, a / middle.clamp(min=1e-300)).sum()

    return (kl(p) + kl(q)) / 2
