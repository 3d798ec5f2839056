"""Penalties: which part of the divergence counts in training."""

import math

from torch import Tensor

NATS_PER_BIT = math.log(2)


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
