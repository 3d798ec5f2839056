"""The task ``seqvae``."""

from fairseq_seqvae.tasks.seqvae import SeqVAETask

__all__ = ["SeqVAETask"]
