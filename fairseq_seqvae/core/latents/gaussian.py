"""The latent space: diagonal Gaussian posterior, its divergence from the prior, walks between points."""

from typing import NamedTuple

import torch
from torch import Tensor


class DiagonalGaussian(NamedTuple):
    """A Gaussian with independent dimensions, such as q(z|x).

    Attributes:
        mean: (B, Z)
        std: (B, Z), standard deviation, positive
    """

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw ``mean + std * noise``, (B, Z), for standard normal *noise* (B, Z)."""
        return self.mean + self.std * noise.to(self.mean.dtype)

    def kl(self) -> Tensor:
        """Divergence from the prior N(0, I) in each dimension, (B, Z), nats, float32."""
        mean, std = self.mean.float(), self.std.float()
        return 0.5 * (mean.square() + std.square() - 1) - std.log()


def upper_tail(z: Tensor, share: float) -> Tensor:
    """Draws *z* (B, Z) of N(0, I) moved to the part of it where the first coordinate is largest, (B, Z).

    The first coordinate becomes a draw from its distribution above the quantile 1 - *share*; the others stay.
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share` must lie in (0, 1] but is {share}.")
    # In float64, and from above: near 1 the distribution function has no digits left.
    above = torch.special.ndtr(-z[:, :1].double()) * share
    return torch.cat([-torch.special.ndtri(above).to(z.dtype), z[:, 1:]], dim=1)
