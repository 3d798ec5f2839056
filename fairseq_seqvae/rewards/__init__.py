"""Rewards that judge the text of a sequence: rules of users' files and the built-in ones, all called the same way.

A *rule* is called as ``rule(samples, tokens=, lengths=, ended=, references=)`` and returns one number per sample, or
None for a sample that it has no opinion of; :class:`fairseq_seqvae.rewards.rule.RuleReward` says what it is given.
"""

from fairseq_seqvae.rewards import (
    bleu,
    length,
    likelihood,
    melody,
    melody_form,
    melody_table,
    novelty,
    oracle,
    patterns,
)
from fairseq_seqvae.rewards.registry import REWARDS, Run, register_reward

__all__ = [
    "REWARDS",
    "Run",
    "bleu",
    "length",
    "likelihood",
    "melody",
    "melody_form",
    "melody_table",
    "novelty",
    "oracle",
    "patterns",
    "register_reward",
]
