"""The head that all encoders share: features of a sequence -> q(z|x)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_seqvae.core.latents.base import LatentFamily, Posterior, Prior
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.core.latents.mean_norm import MeanNorm
from fairseq_seqvae.core.latents.registry import LATENT_FAMILIES, build_latent_family
from fairseq_seqvae.models import latent_families  # noqa: F401  (registers the built-in ones)
from fairseq_seqvae.support.extensions import import_module_files


@dataclass(frozen=True)
class HeadShape:
    """What a head is like.

    Attributes:
        family: of the posterior and the prior
        mean_norm: standard deviation that the posterior's mean is normalised to; 0: it is not normalised
    """

    family: LatentFamily
    mean_norm: float = 0.0

    @property
    def latent_dim(self) -> int:
        """Z; 0: there is nothing to encode."""
        return self.family.prior.dim


def head_shape(cfg: Any, may_import: bool = True) -> HeadShape:
    """The head that the model's options describe; those of checkpoints without a family are Gaussian.

    Args:
        may_import: import the files of ``--module`` for a family that is not known; not where a checkpoint names them

    Raises:
        ValueError: the family is unknown
    """
    name = getattr(cfg, "latent_family", None) or "gaussian"
    if name not in LATENT_FAMILIES and may_import:
        import_module_files(getattr(cfg, "module", None), "--module")
    if name not in LATENT_FAMILIES:
        raise ValueError(
            f"unknown --latent-family {name!r}: choose one of {', '.join(sorted(LATENT_FAMILIES))}, or import the file "
            "that registers it (in training by --module)."
        )
    return HeadShape(build_latent_family(name, cfg), getattr(cfg, "mean_norm", None) or 0.0)


class PosteriorHead(nn.Module):
    """Mixin of encoders. The parameters are the encoder's own: ``mean``, ``raw_std``, ``mean_norm``.

    An encoder calls :meth:`add_head` once its body is built, and :meth:`posterior_of` on the features of a batch, or
    :meth:`posterior_of_nothing` where ``latent_dim`` is 0.

    Attributes:
        latent_dim: Z
        prior: p(z)
        noise_dim: how many standard normal numbers a draw of the posterior takes
    """

    latent_dim: int
    prior: Prior
    noise_dim: int

    def add_head(self, features_dim: int, shape: HeadShape) -> None:
        """Make what turns features of size *features_dim* into a posterior; nothing if Z is 0."""
        self.family = shape.family
        self.latent_dim = shape.latent_dim
        self.prior = shape.family.prior
        self.noise_dim = shape.family.noise_dim
        self.mean_norm: MeanNorm | None = None
        if not self.latent_dim:
            return
        self.mean = nn.Linear(features_dim, self.latent_dim)
        if shape.family.has_spread:
            self.raw_std = nn.Linear(features_dim, self.latent_dim)
        if shape.mean_norm:
            self.mean_norm = MeanNorm(self.latent_dim, shape.mean_norm)

    def posterior_of(self, features: Tensor) -> Posterior:
        """q(z|x) of sequences with *features* (B, D).

        Raises:
            ValueError: a batch of one sequence, in training, whose mean is to be normalised
        """
        # The distribution is kept in float32 under mixed precision: its divergence is a difference of near numbers.
        location = self.mean(features).float()
        if self.mean_norm is not None:
            location = self.mean_norm(location)
        return self.family.posterior(location, self.raw_std(features).float() if self.family.has_spread else None)

    def posterior_of_nothing(self, tokens: Tensor) -> Posterior:
        """q(z|x) of *tokens* (B, T) where Z is 0."""
        nothing = torch.empty(tokens.size(0), 0, device=tokens.device)
        return DiagonalGaussian(nothing, nothing)

    def end_update(self) -> None:
        """Take what the batches of an update have shown into running statistics; all processes call it together."""
        if self.mean_norm is not None:
            self.mean_norm.end_update()

    def forget_batch(self) -> None:
        """The last batch fills the place of one that this process lacks: no statistics of it are kept."""
        if self.mean_norm is not None:
            self.mean_norm.forget_batch()
