"""Gaussian posteriors whose divergence from N(0, I) has a floor.

After Razavi et al. 2019, "Preventing posterior collapse with delta-VAEs", for one latent vector and a standard normal
prior: the floor holds for a mean of 0, so that the mean is free. A floor under the divergence does not say that
the decoder uses z: look at the mutual information too.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian, GaussianFamily

# Of the largest standard deviation: the smallest one, so that the divergence stays finite.
_SMALLEST_SHARE = 1e-4
# Of the largest standard deviation: room for the rounding of float32, by which the floor would be missed.
_ROUNDING = 1 - 1e-6


def largest_std(floor: float) -> float:
    """The standard deviation below 1 at which N(0, std^2) is *floor* nats away from N(0, 1).

    The solution of ``(std^2 - 1) / 2 - log std = floor``, by bisection, rounded down: the divergence is no smaller.
    """
    if not floor > 0:
        raise ValueError(f"`floor` must be above 0 nats but is {floor}.")
    low, high = math.exp(-0.5 - floor), 1.0  # at the lower end the divergence is floor + std^2 / 2
    for _ in range(200):
        middle = (low + high) / 2
        if (middle * middle - 1) / 2 - math.log(middle) >= floor:
            low = middle
        else:
            high = middle
    return low


@dataclass(frozen=True)
class DeltaFamily(GaussianFamily):
    """Gaussian posteriors of at least *floor* nats in each dimension, whatever the mean; prior N(0, I).

    Attributes:
        dim: Z
        floor: nats per dimension, above 0
    """

    floor: float

    def __post_init__(self) -> None:
        largest_std(self.floor)  # raises a ValueError for a floor that cannot be

    def posterior(self, location: Tensor, spread: Tensor | None) -> DiagonalGaussian:
        """Mean *location*; standard deviation between 0 and :func:`largest_std` by the sigmoid of *spread*."""
        assert spread is not None
        share = _SMALLEST_SHARE + (1 - _SMALLEST_SHARE) * torch.sigmoid(spread)
        return DiagonalGaussian(location, largest_std(self.floor) * _ROUNDING * share)
