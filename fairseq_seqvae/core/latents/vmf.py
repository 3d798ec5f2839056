"""The von Mises-Fisher family: z on the unit sphere, prior uniform, posterior around a direction.

After Xu, Durrett 2018, "Spherical latent spaces for stable variational autoencoders", and Davidson et al. 2018,
"Hyperspherical variational auto-encoders". The concentration is fixed, and so is the divergence: it depends on the
size of z and on the concentration alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_seqvae.core.latents.base import Drawn
from fairseq_seqvae.core.latents.walks import slerp

_CELLS = 8192  # of the integrals over the angle
_NEGLIGIBLE = 90.0  # nats below the mode, where the density of the angle is taken for 0
_FARTHEST = 12.0  # standard normal numbers beyond are taken for this one
_STEPS = 256  # of the table, per standard deviation of the noise


@dataclass(frozen=True, eq=False)
class AngleMarginal:
    """The angle t between a draw and the direction it is drawn around, density ~ sin(t)^(Z-2) exp(kappa cos(t)).

    All integrals are over this angle, in float64: where w = cos(t) has an integrable pole (Z = 2), t has none.

    Attributes:
        dim: Z, at least 2
        kappa: concentration, at least 0; 0: uniform on the sphere
        log_mass: log E[exp(kappa w)] for z uniform on the sphere, that is - log of the ratio of the normalisers
        mean_cosine: E[w]
        quantiles: the angle at the standard normal numbers -12 .. 12, falling: z comes closer as they grow
    """

    dim: int
    kappa: float
    log_mass: float = field(init=False)
    mean_cosine: float = field(init=False)
    quantiles: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.dim < 2:
            raise ValueError(f"a sphere needs a latent vector of at least 2 dimensions but has {self.dim}.")
        if not 0 <= self.kappa < math.inf:
            raise ValueError(f"`kappa` must be a finite number of at least 0 but is {self.kappa}.")
        mode = self._mode()
        low, high = self._negligible_from(mode, 0.0), self._negligible_from(mode, math.pi)
        peak = float(self._log_density(torch.tensor(mode, dtype=torch.float64)))
        edges = torch.linspace(low, high, _CELLS + 1, dtype=torch.float64)
        middles = (edges[1:] + edges[:-1]) / 2
        at_edges, at_middles = ((self._log_density(t) - peak).exp() for t in (edges, middles))
        width = (high - low) / _CELLS / 6  # Simpson's rule in each cell
        cells = width * (at_edges[:-1] + 4 * at_middles + at_edges[1:])
        cosines = width * (
            at_edges[:-1] * edges[:-1].cos() + 4 * at_middles * middles.cos() + at_edges[1:] * edges[1:].cos()
        )
        mass = float(cells.sum())
        uniform = math.log(math.pi) / 2 + math.lgamma((self.dim - 1) / 2) - math.lgamma(self.dim / 2)
        object.__setattr__(self, "log_mass", peak + math.log(mass) - uniform)
        object.__setattr__(self, "mean_cosine", float(cosines.sum()) / mass)
        object.__setattr__(self, "quantiles", self._table(edges, cells / mass))

    def _log_density(self, angle: Tensor) -> Tensor:
        tilt = self.kappa * angle.cos()
        return tilt if self.dim == 2 else tilt + (self.dim - 2) * angle.sin().clamp(min=0).log()

    def _mode(self) -> float:
        """Where (Z - 2) cos(t) = kappa sin(t)^2."""
        if self.kappa == 0:
            return math.pi / 2
        half = (self.dim - 2) / (2 * self.kappa)
        return math.acos(min(1.0, 1 / (half + math.sqrt(half * half + 1))))

    def _negligible_from(self, mode: float, end: float) -> float:
        """The angle towards *end* beyond which the density is negligible; it falls all the way from the mode."""
        near, far = torch.tensor(mode, dtype=torch.float64), torch.tensor(end, dtype=torch.float64)
        lowest = self._log_density(near) - _NEGLIGIBLE
        if self._log_density(far) >= lowest:
            return end
        for _ in range(100):
            middle = (near + far) / 2
            near, far = (middle, far) if self._log_density(middle) >= lowest else (near, middle)
        return float(far)

    @staticmethod
    def _table(edges: Tensor, cells: Tensor) -> Tensor:
        """Angles at which the distribution function is that of each standard normal number.

        Each half is made from its own tail, since near 1 a distribution function has no digits left.
        """
        numbers = torch.arange(0, _FARTHEST + 0.5 / _STEPS, 1 / _STEPS, dtype=torch.float64)
        tails = torch.special.log_ndtr(-numbers)  # of the half at small angles, and likewise at large ones
        from_below = _angles_at(tails, edges, cells)
        from_above = _angles_at(tails, edges.flip(0), cells.flip(0))
        return torch.cat([from_above.flip(0)[:-1], from_below])

    def angles(self, noise: Tensor) -> Tensor:
        """Draws of the angle, (B,) float64, of standard normal *noise* (B,): its quantile of the same rank."""
        table = self.quantiles.to(noise.device)
        place = (noise.double().clamp(-_FARTHEST, _FARTHEST) + _FARTHEST) * _STEPS
        index = place.floor().long().clamp(max=len(table) - 2)
        return torch.lerp(table[index], table[index + 1], place - index)

    @property
    def kl(self) -> float:
        """Divergence from the uniform distribution, nats."""
        return self.kappa * self.mean_cosine - self.log_mass


def _angles_at(log_tails: Tensor, edges: Tensor, cells: Tensor) -> Tensor:
    """Where the mass of the *cells*, added up from the first edge on, has these logarithms.

    Between edges, and in the first cell, the mass is a power of the distance from the first edge, as it is at a pole.
    """
    log_mass = cells.cumsum(0).clamp(min=1e-300).log()
    log_distance = (edges[1:] - edges[0]).abs().log()
    index = torch.searchsorted(log_mass, log_tails).clamp(1, len(cells) - 1)
    rise = (log_mass[index] - log_mass[index - 1]).clamp(min=1e-300)
    share = ((log_tails - log_mass[index - 1]) / rise).clamp(max=1)
    distance = torch.lerp(log_distance[index - 1], log_distance[index], share).exp()
    return edges[0] + torch.sign(edges[-1] - edges[0]) * distance


def _around_first_axis(angle: Tensor, noise: Tensor) -> Tensor:
    """Unit vectors (B, Z) at *angle* (B,) from the first axis, in the direction that *noise* (B, Z - 1) has."""
    direction = F.normalize(noise.double(), dim=1)
    return torch.cat([angle.cos().unsqueeze(1), angle.sin().unsqueeze(1) * direction], dim=1)


@dataclass(frozen=True, eq=False)
class UniformSphere:
    """The uniform distribution on the unit sphere.

    Attributes:
        dim: Z, at least 2
    """

    dim: int

    @property
    def noise_dim(self) -> int:
        """Z: how many standard normal numbers a draw takes."""
        return self.dim

    def sample(self, noise: Tensor) -> Tensor:
        """Draws z (B, Z): the directions of standard normal *noise* (B, Z)."""
        return F.normalize(noise, dim=1)

    def region(self, noise: Tensor, share: float) -> Tensor:
        """Draws z (B, Z) from the cap, of mass *share*, where the first coordinate is largest.

        Args:
            noise: (B, Z), standard normal
            share: mass of the cap, in (0, 1]; 1 is the whole sphere
        """
        if not 0 < share <= 1:
            raise ValueError(f"`share` must lie in (0, 1] but is {share}.")
        if share == 1:
            return self.sample(noise)
        above = torch.special.ndtr(-noise[:, 0].double()) * share
        angle = AngleMarginal(self.dim, 0.0).angles(-torch.special.ndtri(above))
        return _around_first_axis(angle, noise[:, 1:]).to(noise.dtype)

    def walk(self, start: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
        """Points on the great circle from *start* (weight 0) to *end* (weight 1), (..., Z)."""
        return F.normalize(slerp(start, end, weight), dim=-1)


class VonMisesFisher(NamedTuple):
    """Distributions around directions, all of one concentration: density ~ exp(kappa <mean, z>) on the unit sphere.

    Attributes:
        mean: (B, Z), unit vectors: the mean directions
        marginal: of the angle to them
    """

    mean: Tensor
    marginal: AngleMarginal

    @property
    def noise_dim(self) -> int:
        """Z: how many standard normal numbers a draw takes."""
        return self.mean.size(1)

    @staticmethod
    def cat(parts: "Sequence[VonMisesFisher]") -> "VonMisesFisher":
        """The rows of all *parts*, in order."""
        return VonMisesFisher(torch.cat([p.mean for p in parts]), parts[0].marginal)

    def rows(self, index: Tensor) -> "VonMisesFisher":
        """The distributions of the rows *index* (R,)."""
        return VonMisesFisher(self.mean[index], self.marginal)

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw, (B, Z), for standard normal *noise* (B, Z).

        The first number gives the angle to the mean, the others the direction around it; then a reflection takes the
        first axis to the mean. It is exact, rejects nothing, and carries gradient to the mean.
        """
        around = _around_first_axis(self.marginal.angles(noise[:, 0]), noise[:, 1:]).to(self.mean.dtype)
        # Of the two reflections that take the axis to +- the mean: the one whose normal cannot vanish.
        sign = torch.where(self.mean[:, :1] < 0, -1.0, 1.0).to(self.mean.dtype)
        axis = torch.zeros_like(self.mean)
        axis[:, 0] = 1.0
        normal = axis + sign * self.mean
        along = (normal * around).sum(dim=1, keepdim=True) / normal.square().sum(dim=1, keepdim=True)
        return sign * (2 * along * normal - around)

    def kl(self) -> Tensor:
        """Divergence from the uniform prior, (B, 1), nats, float32: the same for all, without gradient."""
        return torch.full((len(self.mean), 1), self.marginal.kl, dtype=torch.float32, device=self.mean.device)

    def log_importance(self, noise: Tensor) -> Tensor:
        """log p(z) - log q(z|x) of the draws z = ``sample(noise)``, (B,), nats, float64; p is uniform."""
        cosine = self.marginal.angles(noise[:, 0]).cos()
        return self.marginal.log_mass - self.marginal.kappa * cosine

    def cross_log_probs(self, z: Tensor) -> Tensor:
        """log q(z_i|x_n) of every z_i under every row n, (I, B), float64, up to a constant that all share.

        Args:
            z: (I, Z), unit vectors
        """
        return self.marginal.kappa * (z.double() @ self.mean.double().T)


class VonMisesFisherFamily:
    """Posteriors of one concentration around any direction; prior uniform on the sphere.

    Args:
        dim: Z, at least 2
        kappa: concentration, at least 0
    """

    has_spread = False

    def __init__(self, dim: int, kappa: float):
        self.marginal = AngleMarginal(dim, float(kappa))
        self.prior = UniformSphere(dim)

    @property
    def noise_dim(self) -> int:
        """Z: how many standard normal numbers a draw takes."""
        return self.prior.dim

    def posterior(self, location: Tensor, spread: Tensor | None = None) -> VonMisesFisher:
        """The direction of *location*."""
        return VonMisesFisher(F.normalize(location, dim=1), self.marginal)

    def draw(self, location: Tensor, spread: Tensor | None, noise: Tensor) -> Drawn:
        """A draw from each :meth:`posterior` by standard normal *noise* (B, Z), and the divergences."""
        posterior = self.posterior(location, spread)
        return Drawn(posterior.sample(noise), posterior.kl(), posterior)
