"""A reward that looks at the label of a sequence as well."""

import torch
from torch import Tensor

from fairseq_seqvae.core.conditions import with_label
from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rollouts.policy import Completions


def completions_with_label(
    completions: Completions, prefixes: Tensor, label_tokens: Tensor
) -> tuple[Completions, Tensor]:
    """Completed prefixes, and the sequences (B, P) that the prefixes are from, with their labels as first tokens.

    Args:
        completions: R completed prefixes
        prefixes: (B, P)
        label_tokens: (B,), of the sequences
    """
    tokens, mask = with_label(completions.tokens, completions.mask, label_tokens[completions.rows])
    lengths, prefix_lengths = completions.lengths + 1, completions.prefix_lengths + 1
    whole = torch.cat([label_tokens.unsqueeze(1), prefixes], dim=1)
    return Completions(tokens, lengths, mask, completions.rows, prefix_lengths), whole


class ConditionedReward(Reward):
    """Scores sequences after the token that stands for their label.

    Args:
        reward: scores sequences that begin with such a token

    Attributes:
        label_tokens: (B,), of the sequences that are scored next, whole or as completions of their prefixes
    """

    def __init__(self, reward: Reward):
        self.reward = reward
        self.needs_discriminator, self.may_abstain = reward.needs_discriminator, reward.may_abstain
        self.bounds = reward.bounds
        self.label_tokens: Tensor | None = None

    def score(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """See :meth:`Reward.score`."""
        return self.reward.score(*with_label(tokens, padding_mask, self._known()))

    def score_completions(self, completions: Completions, prefixes: Tensor) -> Tensor:
        """See :meth:`Reward.score_completions`."""
        return self.reward.score_completions(*completions_with_label(completions, prefixes, self._known()))

    def _known(self) -> Tensor:
        if self.label_tokens is None:
            raise RuntimeError("`label_tokens` must be set before sequences are scored.")
        return self.label_tokens
