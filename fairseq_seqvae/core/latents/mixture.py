"""A mixture of Gaussians as a prior, fitted to the posteriors of a trained model.

Ghosh et al. 2020, "From variational to deterministic autoencoders", call this ex-post density estimation.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fairseq_seqvae.core.latents.walks import slerp
from fairseq_seqvae.core.networks.exact_buffers import ExactBuffers

_NUMBERS_AT_A_TIME = 2**24  # of the factors of a block of draws


class GaussianMixturePrior(ExactBuffers):
    """p(z) = sum_k weight_k N(mean_k, factor_k factor_k'); in float32, also in a model of half precision.

    Args:
        weights: (K,), positive; their sum is 1
        means: (K, Z)
        factors: lower triangles (K, Z, Z) whose products with their transposes are the covariances; or standard
            deviations (K, Z) of independent dimensions
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, weights: Tensor, means: Tensor, factors: Tensor):
        super().__init__()
        count, dim = means.shape
        if weights.shape != (count,) or factors.shape not in ((count, dim), (count, dim, dim)):
            shapes = [tuple(part.shape) for part in (weights, means, factors)]
            raise ValueError(f"`weights`, `means` and `factors` of a mixture do not fit together: {shapes}.")
        for name, value in (("weights", weights), ("means", means), ("factors", factors)):
            self.register_buffer(name, value.detach().float().clone())

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> "GaussianMixturePrior":
        """The mixture with the state dict *state*."""
        return GaussianMixturePrior(state["weights"], state["means"], state["factors"])

    @property
    def dim(self) -> int:
        """Z."""
        return self.means.size(1)

    @property
    def noise_dim(self) -> int:
        """Z + 1: how many standard normal numbers a draw takes; the first one chooses the component."""
        return self.dim + 1

    def sample(self, noise: Tensor) -> Tensor:
        """Draws z (B, Z) made of standard normal *noise* (B, Z + 1)."""
        borders = self.weights.double().cumsum(0)
        rank = torch.special.ndtr(noise[:, 0].double()) * borders[-1]
        chosen = torch.searchsorted(borders, rank).clamp(max=len(borders) - 1)
        parts = []
        for some in torch.arange(len(noise), device=noise.device).split(max(1, _NUMBERS_AT_A_TIME // self.dim**2)):
            factors, steps = self.factors[chosen[some]], noise[some, 1:].float()
            # Row by row, not as a product of matrices: a draw must not depend on how many there are.
            parts.append(factors * steps if factors.dim() == 2 else (factors * steps.unsqueeze(1)).sum(dim=2))
        return (self.means[chosen] + torch.cat(parts)).to(noise.dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) of *z* (B, Z), (B,), nats, float64."""
        off = z.double().unsqueeze(1) - self.means.double()  # (B, K, Z)
        factors = self.factors.double()
        if factors.dim() == 2:
            steps, spread = off / factors, factors
        else:
            steps = torch.linalg.solve_triangular(factors, off.transpose(0, 1).transpose(1, 2), upper=False)
            steps, spread = steps.permute(2, 0, 1), factors.diagonal(dim1=1, dim2=2)
        constant = self.weights.double().log() - spread.log().sum(dim=1) - self.dim / 2 * math.log(2 * math.pi)
        return (constant - steps.square().sum(dim=2) / 2).logsumexp(dim=1)

    def region(self, noise: Tensor, share: float) -> Tensor:
        """Not supported: a ValueError."""
        raise ValueError("a fitted prior has no region where the first coordinate is largest: use the model's prior.")

    def walk(self, start: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
        """Points between *start* (weight 0) and *end* (weight 1), (..., Z), by :func:`slerp`."""
        return slerp(start, end, weight)
