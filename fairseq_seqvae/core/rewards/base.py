"""What a reward is."""

from abc import ABC, abstractmethod

from torch import Tensor

from fairseq_seqvae.core.rollouts.policy import Completions


class Reward(ABC):
    """Scores whole sequences, one number each; no gradient flows through it.

    Attributes:
        needs_discriminator: whether a discriminator has to be there and trained for it
        may_abstain: whether a score may be NaN, for a sequence that the reward has no opinion of
        bounds: least and greatest score, if there are such; alarms look at means close to them
    """

    needs_discriminator: bool = False
    may_abstain: bool = False
    bounds: tuple[float, float] | None = None

    @abstractmethod
    def score(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """Scores (R,) of *tokens* (R, T); *padding_mask* (R, T), True = padding."""

    def score_completions(self, completions: Completions, prefixes: Tensor) -> Tensor:
        """Scores (R,) of completed prefixes: those of :meth:`score`, which a reward may know a faster way to.

        Args:
            completions: R completed prefixes
            prefixes: (B, P), the sequences that the prefixes are from
        """
        return self.score(completions.tokens, completions.mask)
