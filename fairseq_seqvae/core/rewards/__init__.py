"""Rewards of sequences."""

from fairseq_seqvae.core.rewards.discriminator import REWARDS, reward_from_logits

__all__ = ["REWARDS", "reward_from_logits"]
