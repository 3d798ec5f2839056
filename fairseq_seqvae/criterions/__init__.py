"""The criteria ``seqvae_elbo`` and ``seqvae_pg``."""

from fairseq_seqvae import compat

compat.require_fairseq()

from fairseq_seqvae.criterions import seqvae_elbo, seqvae_pg  # noqa: E402

__all__ = ["seqvae_elbo", "seqvae_pg"]
