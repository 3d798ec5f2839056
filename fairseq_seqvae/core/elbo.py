"""The evidence lower bound: the one equation that training, validation and the bounds of held-out likelihood share.

Training may penalise a part of the divergence only.
"""

import math

from torch import Tensor

NATS_PER_BIT = math.log(2)


def negative_elbo(log_likelihood: Tensor, divergence: Tensor, kl_weight: float = 1.0) -> Tensor:
    """``- log p(x|z) + kl_weight * KL(q(z|x) || p(z))``, nats, in the common shape of the two (Kingma, Welling 2014).

    Args:
        log_likelihood: log p(x|z) at z ~ q(z|x), or its mean over several draws
        divergence: KL(q(z|x) || p(z)), or the part of it that a penalty leaves
        kl_weight: 1 makes the result a bound of - log p(x)
    """
    return kl_weight * divergence - log_likelihood


def free_bits(kl: Tensor, bits: float, mode: str = "total") -> Tensor:
    """The part of the divergence that is penalised, (B,), nats.

    Args:
        kl: (B, Z), divergence of each dimension in nats
        bits: divergence that costs nothing, in bits; of the whole sequence (``total``) or of each
            dimension (``per-dim``)
        mode: ``total`` or ``per-dim``

    Raises:
        ValueError: *mode* is unknown or *bits* is negative.
    """
    if bits < 0:
        raise ValueError(f"`bits` must not be negative but is {bits}: give 0 to penalise the whole divergence.")
    free = bits * NATS_PER_BIT
    if mode == "total":
        return (kl.sum(dim=1) - free).clamp(min=0) if bits else kl.sum(dim=1)
    if mode == "per-dim":
        return (kl - free).clamp(min=0).sum(dim=1) if bits else kl.sum(dim=1)
    raise ValueError(f"`mode` must be 'total' or 'per-dim' but is {mode!r}.")


def training_loss(
    log_likelihood: Tensor, kl: Tensor, kl_weight: float, bits: float = 0.0, mode: str = "total"
) -> Tensor:
    """The negative ELBO with a weighted divergence of which some bits are free, summed over the batch, nats.

    Args:
        log_likelihood: log p(x|z), summed over the batch
        kl: (B, Z), divergence of each dimension
        kl_weight: weight of the divergence
        bits: see :func:`free_bits`
        mode: see :func:`free_bits`
    """
    return negative_elbo(log_likelihood, free_bits(kl, bits, mode).sum(), kl_weight)
