"""The discriminator's opinion as a reward."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_seqvae.core.discriminators.scoring import completion_logits
from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rollouts.policy import Completions

REWARDS = ("prob", "log-prob", "logit")


def reward_from_logits(logits: Tensor, kind: str = "prob") -> Tensor:
    """The reward of sequences with these logits, same shape, float32.

    ``prob`` is the probability of "real" (SeqGAN, SeqVAE), ``log-prob`` its logarithm, ``logit`` the log-odds,
    which keeps its slope where the discriminator is sure.
    """
    logits = logits.float()
    if kind == "prob":
        return torch.sigmoid(logits)
    if kind == "log-prob":
        return F.logsigmoid(logits)
    if kind == "logit":
        return logits
    raise ValueError(f"`kind` must be one of {', '.join(REWARDS)} but is {kind!r}.")


class DiscriminatorReward(Reward):
    """How real a sequence looks to the discriminator, as it is now.

    Args:
        discriminator: tokens and padding mask -> logits (R,); in evaluation mode, or its dropout makes the reward noisy
        kind: see :func:`reward_from_logits`
        scoring: how completions are scored, see :func:`completion_logits`
    """

    needs_discriminator = True

    def __init__(self, discriminator: Any, kind: str = "prob", scoring: str = "auto"):
        self.discriminator = discriminator
        self.kind = kind
        self.scoring = scoring
        self.bounds = (0.0, 1.0) if kind == "prob" else None

    @torch.no_grad()
    def score(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """See :meth:`Reward.score`."""
        return reward_from_logits(self.discriminator(tokens, padding_mask), self.kind)

    def score_completions(self, completions: Completions, prefixes: Tensor) -> Tensor:
        """See :meth:`Reward.score_completions`."""
        return reward_from_logits(completion_logits(self.discriminator, completions, prefixes, self.scoring), self.kind)
