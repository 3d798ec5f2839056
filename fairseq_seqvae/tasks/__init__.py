"""The task ``seqvae``. fairseq imports this folder of a ``--user-dir`` itself; it also registers all the rest."""

from fairseq_seqvae import compat

compat.require_fairseq()
compat.apply_shims()

from fairseq_seqvae import criterions, models, optim, scoring  # noqa: E402, F401  (registers with fairseq)
from fairseq_seqvae.tasks.seqvae import SeqVAETask  # noqa: E402

__all__ = ["SeqVAETask"]
