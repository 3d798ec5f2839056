"""The optimizer ``seqvae_adam``."""

from fairseq_seqvae.optim.adam import SeqVAEAdam

__all__ = ["SeqVAEAdam"]
