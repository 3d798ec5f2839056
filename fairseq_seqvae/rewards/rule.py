"""A rule on texts as a reward of tokens."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rollouts.policy import Completions
from fairseq_seqvae.rewards.registry import Rule
from fairseq_seqvae.rewards.texts import Reader, Texts
from fairseq_seqvae.rewards.workers import CalleeError
from fairseq_seqvae.support.callee import place


class RewardError(ValueError):
    """A rule failed; the message names it and says what to do."""


class RuleReward(Reward):
    """What a rule says of whole sequences; NaN where it says None.

    The rule is called with ``samples`` (list of str, as a user wrote them) and the keywords ``tokens`` (list of lists
    of numbers, without padding and end), ``lengths`` (of these), ``ended`` (whether the sample came to its end, which
    one of the greatest length may not), ``references`` (list of str: the sequences of the data in this batch, in no
    relation to the samples) and ``labels`` (list of str: those that the samples were made of; None where sequences have
    no labels). It returns one number per sample, or None.

    Args:
        source: as the user gave it, for messages
        rule: see above
        reader: makes texts of tokens
    """

    may_abstain = True

    def __init__(self, source: str, rule: Rule, reader: Reader):
        self.source = source
        self.rule = rule
        self.reader = reader

    def score(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """See :meth:`Reward.score`.

        Raises:
            RewardError: the rule raised, or did not return one finite number or None per sample
        """
        return self._score(tokens, padding_mask, self.reader.labels)

    def score_completions(self, completions: Completions, prefixes: Tensor) -> Tensor:
        """See :meth:`Reward.score_completions`."""
        known = self.reader.labels
        labels = None if known is None else [known[row] for row in completions.rows.tolist()]
        return self._score(completions.tokens, completions.mask, labels)

    @torch.no_grad()
    def _score(self, tokens: Tensor, padding_mask: Tensor, labels: list[str] | None) -> Tensor:
        references = self.reader.references()
        texts = self.reader.read(tokens, padding_mask)
        return torch.tensor(self._judge(texts, references, labels), device=tokens.device)

    def _judge(self, texts: Texts, references: list[str], labels: list[str] | None) -> list[float]:
        """What the rule says of *texts*, checked; NaN for None."""
        try:
            scores = self.rule(
                list(texts.texts),
                tokens=[list(row) for row in texts.tokens],
                lengths=[len(row) for row in texts.tokens],
                ended=list(texts.ended),
                references=list(references),
                labels=None if labels is None else list(labels),
            )
        except CalleeError as error:
            raise RewardError(f"{self.name} raised {error.kind}: {error}{error.place}.") from error
        except Exception as error:
            raise RewardError(f"{self.name} raised {type(error).__name__}: {error}{place(error, __file__)}.") from error
        return self._numbers(scores, texts.texts)

    def _numbers(self, scores: Any, samples: list[str]) -> list[float]:
        if torch.is_tensor(scores) or hasattr(scores, "tolist"):
            scores = scores.tolist()
        if not isinstance(scores, Iterable) or isinstance(scores, (str, dict)):
            raise RewardError(f"{self.name} returned {scores!r}: return a list of one number or None per sample.")
        scores = list(scores)
        if len(scores) != len(samples):
            raise RewardError(
                f"{self.name} returned {len(scores)} numbers for {len(samples)} samples: return one per sample, or "
                "None for one that it has no opinion of."
            )
        return [self._number(score, sample) for score, sample in zip(scores, samples, strict=True)]

    def _number(self, score: Any, sample: str) -> float:
        if score is None:
            return math.nan
        try:
            number = math.nan if isinstance(score, str) else float(score)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise RewardError(
                f"{self.name} returned {score!r} for the sample {sample!r}: return a finite number, or None."
            )
        return number

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"the reward {self.source!r} of --reward-sources"
