"""SeqVAE for fairseq. This folder is the `--user-dir`; importing it registers the task, the model, the criteria, the
optimizer and the scorer.

Without a working fairseq the import still succeeds, so that the core (torch only) can be used alone.
`fairseq_seqvae.compat.fairseq_problem()` then says what is wrong.
"""

import sys

from fairseq_seqvae import compat

__version__ = "0.1.0"

# While `python -m fairseq_seqvae.something` looks for its module, Python's argument list begins with "-m". Such
# commands need not wait for fairseq, which takes seconds to import.
_own_command = sys.argv[:1] == ["-m"] and any(word.split(".")[0] == "fairseq_seqvae" for word in sys.orig_argv)

if not _own_command and compat.fairseq_problem() is None:
    compat.apply_shims()
    from fairseq_seqvae import criterions, models, optim, scoring, tasks  # noqa: F401  (registers with fairseq)
