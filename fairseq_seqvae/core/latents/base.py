"""What is asked of a prior, of a posterior, and of the family that makes posteriors of an encoder's outputs."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from torch import Tensor

SomePosterior = TypeVar("SomePosterior", bound="Posterior")


class Prior(Protocol):
    """p(z). Draws are functions of standard normal noise, so that they can be repeated."""

    @property
    def dim(self) -> int:
        """Z; 0: there is no latent space."""

    @property
    def noise_dim(self) -> int:
        """How many standard normal numbers a draw takes."""

    def sample(self, noise: Tensor) -> Tensor:
        """Draws z (B, Z) made of standard normal *noise* (B, noise_dim)."""

    def region(self, noise: Tensor, share: float) -> Tensor:
        """Draws z (B, Z) from the part of the prior, of mass *share*, where the first coordinate is largest."""

    def walk(self, start: Tensor, end: Tensor, weight: float | Tensor) -> Tensor:
        """Points between *start* (weight 0) and *end* (weight 1), (..., Z), that are as likely as the ends."""


class Posterior(Protocol):
    """q(z|x) of B sequences."""

    @property
    def mean(self) -> Tensor:
        """(B, Z), the z that stands for each sequence where none is drawn."""

    @property
    def noise_dim(self) -> int:
        """How many standard normal numbers a draw takes."""

    @staticmethod
    def cat(parts: Sequence[Any]) -> Any:
        """The rows of all *parts*, in order."""

    def rows(self: SomePosterior, index: Tensor) -> SomePosterior:
        """The distributions of the rows *index* (R,)."""

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw, (B, Z), for standard normal *noise* (B, noise_dim)."""

    def kl(self) -> Tensor:
        """Divergence from the prior, (B, D), nats, float32; the sum over D counts. D is Z if dimensions have shares."""

    def log_importance(self, noise: Tensor) -> Tensor:
        """log p(z) - log q(z|x) of the draws z = ``sample(noise)``, (B,), nats, float64."""

    def cross_log_probs(self, z: Tensor) -> Tensor:
        """log q(z_i|x_n) of every z_i (I, Z) under every row n, (I, B), float64, up to a constant that all share."""


class Drawn(NamedTuple):
    """A draw from each of B posteriors.

    Attributes:
        z: (B, Z), reparameterised
        kl: (B, D), see :meth:`Posterior.kl`
        posterior: that z was drawn from
    """

    z: Tensor
    kl: Tensor
    posterior: Any


class LatentFamily(Protocol):
    """A family of posteriors, and the prior that goes with it."""

    @property
    def prior(self) -> Prior:
        """p(z)."""

    @property
    def noise_dim(self) -> int:
        """How many standard normal numbers a draw of a posterior takes."""

    @property
    def has_spread(self) -> bool:
        """Whether a posterior takes a second vector besides its location."""

    def posterior(self, location: Tensor, spread: Tensor | None) -> Posterior:
        """q(z|x) of an encoder's outputs, both (B, Z) float32 of any value; *spread* only if ``has_spread``."""

    def draw(self, location: Tensor, spread: Tensor | None, noise: Tensor) -> Drawn:
        """A draw from each :meth:`posterior` by standard normal *noise* (B, noise_dim), and the divergences."""
