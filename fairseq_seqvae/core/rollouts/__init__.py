"""Sampling from a policy, Monte Carlo completion of prefixes, and the values of prefixes."""

from fairseq_seqvae.core.rollouts.completion import complete_prefixes
from fairseq_seqvae.core.rollouts.policy import Completions, Policy, Samples, State, rows_per_block
from fairseq_seqvae.core.rollouts.sampling import sample
from fairseq_seqvae.core.rollouts.values import prefix_values

__all__ = [
    "Completions",
    "Policy",
    "Samples",
    "State",
    "complete_prefixes",
    "prefix_values",
    "rows_per_block",
    "sample",
]
