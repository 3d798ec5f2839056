"""The built-in latent families, made from the model's options."""

from typing import Any

from fairseq_seqvae.core.latents.delta import DeltaFamily
from fairseq_seqvae.core.latents.gaussian import GaussianFamily
from fairseq_seqvae.core.latents.registry import register_latent_family
from fairseq_seqvae.core.latents.vmf import VonMisesFisherFamily


@register_latent_family("gaussian")
class GaussianFromOptions:
    """``--latent-family gaussian``."""

    @staticmethod
    def from_config(cfg: Any) -> GaussianFamily:
        """Build from ``latent_dim``."""
        return GaussianFamily(cfg.latent_dim)


@register_latent_family("delta")
class DeltaFromOptions:
    """``--latent-family delta``."""

    @staticmethod
    def from_config(cfg: Any) -> DeltaFamily:
        """Build from ``latent_dim`` and ``kl_floor``."""
        return DeltaFamily(cfg.latent_dim, cfg.kl_floor)


@register_latent_family("vmf")
class VonMisesFisherFromOptions:
    """``--latent-family vmf``."""

    @staticmethod
    def from_config(cfg: Any) -> VonMisesFisherFamily:
        """Build from ``latent_dim`` and ``vmf_kappa``."""
        return VonMisesFisherFamily(cfg.latent_dim, cfg.vmf_kappa)
