"""Repairs of fairseq on today's torch, and nothing else.

`fairseq_problem` tells whether fairseq can be used at all; `apply_repairs` repairs at run time what can be repaired, by
the table `REPAIRS`. Rules of the task are in `tasks`, and the words of messages in `support.manners`. Whatever replaces
a function of fairseq is here, even where it only improves a message.
"""

from fairseq_seqvae.compat.installation import fairseq_problem, fairseq_version, installed_version, require_fairseq
from fairseq_seqvae.compat.repairs import REPAIRS, apply_repairs

__all__ = [
    "REPAIRS",
    "apply_repairs",
    "fairseq_problem",
    "fairseq_version",
    "installed_version",
    "require_fairseq",
]
