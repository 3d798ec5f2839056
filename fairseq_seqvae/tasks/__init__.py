"""The task ``seqvae``."""

from fairseq_seqvae import compat

compat.require_fairseq()

from fairseq_seqvae.tasks.seqvae import SeqVAETask  # noqa: E402

__all__ = ["SeqVAETask"]
