"""The discriminator's opinion as a reward."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rollouts.policy import Completions

SCORINGS = ("auto", "plain", "tables")
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


def check_scoring(discriminator: Any, scoring: str) -> bool:
    """Whether *discriminator* has tables; ValueError if *scoring* is unknown, or ``tables`` without any."""
    if scoring not in SCORINGS:
        raise ValueError(f"`scoring` must be one of {', '.join(SCORINGS)} but is {scoring!r}.")
    has_tables = hasattr(discriminator, "logits_by_tables")
    if scoring == "tables" and not has_tables:
        raise ValueError(f"{type(discriminator).__name__} cannot score by tables: `scoring` must be auto or plain.")
    return has_tables


@torch.no_grad()
def completion_logits(discriminator: Any, completions: Completions, prefixes: Tensor, scoring: str = "auto") -> Tensor:
    """Logits (R,) of *completions*; without dropout only if the discriminator is in evaluation mode.

    Args:
        discriminator: one that can score by tables has the methods ``tables_pay(num_tokens)`` and
            ``logits_by_tables(completions, prefixes)``
        completions: R completed prefixes
        prefixes: (B, P), the sequences whose prefixes were completed
        scoring: ``plain``: the discriminator's forward pass; ``tables``; ``auto``: whichever is faster

    Raises:
        ValueError: see :func:`check_scoring`
    """
    has_tables = check_scoring(discriminator, scoring)
    if scoring == "tables" or (
        scoring == "auto" and has_tables and discriminator.tables_pay(completions.tokens.numel())
    ):
        return discriminator.logits_by_tables(completions, prefixes)
    mask = completions.mask
    # Enough rows for a fast product, few enough for the cache of a CPU and for memory.
    num_tokens = 1 << (13 if mask.device.type == "cpu" else 19)
    rows = max(1, num_tokens // mask.size(1))
    blocks = zip(completions.tokens.split(rows), mask.split(rows), strict=True)
    return torch.cat([discriminator(tokens, block_mask) for tokens, block_mask in blocks])
