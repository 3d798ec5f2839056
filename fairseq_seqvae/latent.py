"""The latent space: diagonal Gaussian posterior, its divergence from the prior, walks between points."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

NATS_PER_BIT = math.log(2)


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


def upper_tail(z: Tensor, share: float) -> Tensor:
    """Draws *z* (B, Z) of N(0, I) moved to the part of it where the first coordinate is largest, (B, Z).

    The first coordinate becomes a draw from its distribution above the quantile 1 - *share*; the others stay.
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share` must lie in (0, 1] but is {share}.")
    # In float64, and from above: near 1 the distribution function has no digits left.
    above = torch.special.ndtr(-z[:, :1].double()) * share
    return torch.cat([-torch.special.ndtri(above).to(z.dtype), z[:, 1:]], dim=1)


def slerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """Walk from *a* (weight 0) to *b* (weight 1) along the sphere, (..., Z).

    The direction moves along the great circle and the norm linearly, so that every point on the way between
    two prior draws is as likely a length as they are: the straight line passes through a thin middle where the
    prior has no mass (White 2016, "Sampling generative networks"). Where the angle is too small or too close
    to pi to define a great circle, the direction moves along the straight line instead.

    Args:
        a: (..., Z)
        b: (..., Z)
        weight: a number or a tensor of the leading shape of *a*
    """
    dtype = a.dtype
    a, b = a.float(), b.float()  # the thresholds below would vanish in half precision
    weight = torch.as_tensor(weight, dtype=a.dtype, device=a.device).unsqueeze(-1)
    norm_a = a.norm(dim=-1, keepdim=True)
    norm_b = b.norm(dim=-1, keepdim=True)
    cosine = (a * b).sum(dim=-1, keepdim=True) / (norm_a * norm_b).clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    sine = torch.sin(angle)
    degenerate = (sine < 1e-4) | (norm_a < 1e-12) | (norm_b < 1e-12)
    safe_sine = torch.where(degenerate, torch.ones_like(sine), sine)
    direction = (
        torch.sin((1 - weight) * angle) * a / norm_a.clamp(min=1e-12)
        + torch.sin(weight * angle) * b / norm_b.clamp(min=1e-12)
    ) / safe_sine
    norm = (1 - weight) * norm_a + weight * norm_b
    return torch.where(degenerate, (1 - weight) * a + weight * b, norm * direction).to(dtype)
