"""Walks between two points of a latent space."""

import torch
from torch import Tensor


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
