"""The task ``seqvae``. fairseq imports this folder of a ``--user-dir`` itself; so it also registers everything else."""

from fairseq_seqvae import compat
from fairseq_seqvae.support import manners

compat.require_fairseq()
compat.apply_repairs()
manners.explain_ends_of("fairseq-")

from fairseq_seqvae import criterions, models, optim, scoring  # noqa: E402, F401  (registers with fairseq)
from fairseq_seqvae.tasks.seqvae import SeqVAETask  # noqa: E402

__all__ = ["SeqVAETask"]
