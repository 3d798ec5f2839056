"""The criteria ``seqvae_elbo`` and ``seqvae_pg``."""

from fairseq_seqvae.criterions import seqvae_elbo, seqvae_pg

__all__ = ["seqvae_elbo", "seqvae_pg"]
