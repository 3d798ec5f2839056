"""SeqVAE for fairseq. This folder is the `--user-dir`; importing it registers task, model, criteria, optimizer.

Without a working fairseq the import still succeeds, so that the core (torch only) can be used alone.
`fairseq_seqvae.compat.fairseq_problem()` then says what is wrong.
"""

import sys

from fairseq_seqvae import compat

__version__ = "0.1.0"

# Python's argument list begins with "-m" while `python -m fairseq_seqvae.something` looks for its module: such commands
# need not wait for fairseq, which takes seconds to import.
if sys.argv[:1] != ["-m"] and compat.fairseq_problem() is None:
    compat.apply_shims()
    from fairseq_seqvae import criterions, models, optim, tasks  # noqa: F401  (registers with fairseq)
