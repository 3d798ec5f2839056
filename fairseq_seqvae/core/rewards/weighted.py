"""Several rewards as one: their weighted sum, and what each of them said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rewards.ranks import rank_correlation
from fairseq_seqvae.core.rollouts.policy import Completions


@dataclass(frozen=True)
class Weighted:
    """One of several rewards.

    Attributes:
        name: as in logs
        reward: scores sequences
        weight: factor of its scores
    """

    name: str
    reward: Reward
    weight: float = 1.0


class WeightedRewards(Reward):
    """The sum of weight * score over several rewards; where one of them abstains, it is left out for that sequence.

    Args:
        parts: at least one, of different names

    Raises:
        ValueError: there is none, or two have the same name
    """

    def __init__(self, parts: Sequence[Weighted]):
        names = [part.name for part in parts]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"`parts` must be rewards of different names, at least one, but are {names}.")
        self.parts = tuple(parts)
        self.needs_discriminator = any(part.reward.needs_discriminator for part in parts)
        alone = len(parts) == 1 and parts[0].weight == 1
        self.bounds = parts[0].reward.bounds if alone else None
        self._with_discriminator = True
        self._whole: dict[str, Tensor] = {}  # scores of the whole sequences that were scored last
        self._total = torch.zeros(0)  # their sum

    def let_discriminator_count(self, counts: bool) -> None:
        """Whether from now on rewards that need a discriminator enter the sum; what they say is logged in any case."""
        self._with_discriminator = counts

    def score(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """See :meth:`Reward.score`."""
        self._total, self._whole = self._sum(lambda reward: reward.score(tokens, padding_mask), self.parts)
        return self._total

    def score_completions(self, completions: Completions, prefixes: Tensor) -> Tensor:
        """See :meth:`Reward.score_completions`; a reward of weight 0, which is only logged, is not asked here."""
        weighed = [part for part in self.parts if part.weight] or self.parts[:1]
        return self._sum(lambda reward: reward.score_completions(completions, prefixes), weighed)[0]

    def _sum(self, score: Callable[[Reward], Tensor], parts: Sequence[Weighted]) -> tuple[Tensor, dict[str, Tensor]]:
        """Total (R,) and the scores of each of *parts*, (R,) each, NaN where it abstains."""
        scores = {part.name: score(part.reward).float() for part in parts}
        terms = []
        for part in parts:
            given = scores[part.name]
            if part.reward.may_abstain:
                given = torch.where(given.isnan(), torch.zeros_like(given), given)
            counts = self._with_discriminator or not part.reward.needs_discriminator
            terms.append((part.weight if counts else 0.0) * given)
        return torch.stack(terms).sum(dim=0), scores

    def statistics(self) -> dict[str, Any]:
        """Sums over the whole sequences that were scored last, to be added up over batches and processes.

        For each reward ``rewards/NAME/`` ``sum``, ``squares`` and ``count``, without sequences that it abstained from;
        of several rewards also ``rank``, the rank correlation with the weighted sum times ``rank_count``.
        """
        found: dict[str, Any] = {}
        for part in self.parts:
            scores = self._whole[part.name].double()
            judged = ~scores.isnan() if part.reward.may_abstain else torch.ones_like(scores, dtype=torch.bool)
            scores = scores.masked_fill(~judged, 0.0)
            found[f"rewards/{part.name}/sum"] = scores.sum()
            found[f"rewards/{part.name}/squares"] = scores.square().sum()
            found[f"rewards/{part.name}/count"] = judged.sum()
            if len(self.parts) > 1:
                correlation, number = rank_correlation(scores, self._total, judged)
                found |= {f"rewards/{part.name}/rank": correlation * number, f"rewards/{part.name}/rank_count": number}
        return found
