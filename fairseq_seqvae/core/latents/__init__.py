"""Latent spaces: posterior, prior and their divergence; penalties on it; walks between points."""

from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian, upper_tail
from fairseq_seqvae.core.latents.penalties import NATS_PER_BIT, free_bits
from fairseq_seqvae.core.latents.walks import slerp

__all__ = ["NATS_PER_BIT", "DiagonalGaussian", "free_bits", "slerp", "upper_tail"]
