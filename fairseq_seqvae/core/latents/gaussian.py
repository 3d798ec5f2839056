"""The Gaussian family: prior N(0, I), posterior with a mean and a standard deviation in each dimension."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_seqvae.core.latents.base import Drawn
from fairseq_seqvae.core.latents.walks import slerp

# Added to the standard deviation, so that the divergence stays finite where softplus underflows in half precision.
_SMALLEST_STD = 1e-4


@dataclass(frozen=True)
class StandardNormal:
    """The prior N(0, I).

    Attributes:
        dim: Z; 0: there is no latent space
    """

    dim: int

    @property
    def noise_dim(self) -> int:
        """Z: how many standard normal numbers a draw takes."""
        return self.dim

    def sample(self, noise: Tensor) -> Tensor:
        """Draws z (B, Z) made of standard normal *noise* (B, Z)."""
        return noise

    def region(self, noise: Tensor, share: float) -> Tensor:
        """Draws z (B, Z) from the part of the prior where the first coordinate is largest.

        The first coordinate is drawn from its distribution above the quantile 1 - *share*; the others are as in
        :meth:`sample`.

        Args:
            noise: (B, Z), standard normal
            share: mass of the region, in (0, 1]; 1 is the whole prior
        """
        if not 0 < share <= 1:
            raise ValueError(f"`share` must lie in (0, 1] but is {share}.")
        if share == 1:
            return self.sample(noise)
        # In float64, and from above: near 1 the distribution function has no digits left.
        above = torch.special.ndtr(-noise[:, :1].double()) * share
        return torch.cat([-torch.special.ndtri(above).to(noise.dtype), noise[:, 1:]], dim=1)

    def walk(self, start: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
        """Points between *start* (weight 0) and *end* (weight 1), (..., Z), that are as likely as the ends."""
        return slerp(start, end, weight)


class DiagonalGaussian(NamedTuple):
    """A Gaussian with independent dimensions, such as q(z|x).

    Attributes:
        mean: (B, Z)
        std: (B, Z), standard deviation, positive
    """

    mean: Tensor
    std: Tensor

    @property
    def noise_dim(self) -> int:
        """Z: how many standard normal numbers a draw takes."""
        return self.mean.size(1)

    @staticmethod
    def cat(parts: "Sequence[DiagonalGaussian]") -> "DiagonalGaussian":
        """The rows of all *parts*, in order."""
        return DiagonalGaussian(torch.cat([p.mean for p in parts]), torch.cat([p.std for p in parts]))

    def rows(self, index: Tensor) -> "DiagonalGaussian":
        """The distributions of the rows *index* (R,)."""
        return DiagonalGaussian(self.mean[index], self.std[index])

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw ``mean + std * noise``, (B, Z), for standard normal *noise* (B, Z)."""
        return self.mean + self.std * noise.to(self.mean.dtype)

    def kl(self) -> Tensor:
        """Divergence from the prior N(0, I) in each dimension, (B, Z), nats, float32."""
        mean, std = self.mean.float(), self.std.float()
        return 0.5 * (mean.square() + std.square() - 1) - std.log()

    def log_importance(self, noise: Tensor) -> Tensor:
        """log p(z) - log q(z|x) of the draws z = ``sample(noise)``, (B,), nats, float64; p is the prior N(0, I)."""
        z = self.sample(noise)
        # The constants of both densities cancel.
        return (0.5 * (noise.double().square() - z.double().square()) + self.std.double().log()).sum(dim=1)

    def cross_log_probs(self, z: Tensor) -> Tensor:
        """log q(z_i|x_n) of every z_i under every row n, (I, B), float64, up to a constant that all share.

        Args:
            z: (I, Z)
        """
        mean, std, z = self.mean.double(), self.std.double(), z.double()
        precision = std.reciprocal().square()
        constant = -0.5 * (mean.square() * precision).sum(dim=1) - std.log().sum(dim=1)
        return constant + z @ (mean * precision).T - 0.5 * z.square() @ precision.T

    def divergence_from_moments(self) -> Tensor:
        """Mean over the rows of KL(q(z|x) || N(m, S)), a scalar, nats, float64.

        m and S are mean and covariance of the rows' mixture. So it is the mutual information of x and z plus the
        divergence of the mixture from N(m, S), and a bound of that information from above. In closed form: half of
        log det S less the mean log det of the rows' own covariances.
        """
        mean, std = self.mean.double(), self.std.double()
        deviations = mean - mean.mean(dim=0)
        covariance = deviations.T @ deviations / len(mean) + torch.diag(std.square().mean(dim=0))
        return 0.5 * torch.logdet(covariance) - std.log().sum(dim=1).mean()


@dataclass(frozen=True)
class GaussianFamily:
    """Posteriors with any mean and any standard deviation; prior N(0, I).

    Attributes:
        dim: Z
    """

    dim: int
    has_spread = True

    @property
    def prior(self) -> StandardNormal:
        """N(0, I)."""
        return StandardNormal(self.dim)

    @property
    def noise_dim(self) -> int:
        """Z: how many standard normal numbers a draw takes."""
        return self.dim

    def posterior(self, location: Tensor, spread: Tensor | None) -> DiagonalGaussian:
        """Mean *location*; standard deviation softplus(*spread*), which is kept above 1e-4."""
        assert spread is not None
        return DiagonalGaussian(location, F.softplus(spread) + _SMALLEST_STD)

    def draw(self, location: Tensor, spread: Tensor | None, noise: Tensor) -> Drawn:
        """A draw from each :meth:`posterior` by standard normal *noise* (B, Z), and the divergences."""
        posterior = self.posterior(location, spread)
        return Drawn(posterior.sample(noise), posterior.kl(), posterior)
