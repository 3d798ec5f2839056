"""``match:SOURCE``: samples shall have, on the mean, as much of something as the training data have."""

import math
from collections.abc import Iterable
from typing import Any

from fairseq_seqvae.rewards.registry import Rule, Run
from fairseq_seqvae.rewards.rule import RewardError, RuleReward
from fairseq_seqvae.rewards.texts import Reader, Texts

PREFIX = "match:"
MOST = 5000  # training sequences that a mean is taken of
AT_ONCE = 256  # that a rule is given


class MatchingReward(RuleReward):
    """A reward whose gradient closes the gap between the mean of a rule over samples and that over the data.

    Of f, what the rule says, in standard deviations of the data from their mean: a sample gets -f times the mean f of
    the other samples. Its policy gradient is that of -(mean f)^2 / 2, without bias, since no sample is among those that
    it is multiplied with; a leave-one-out baseline over n samples makes it (n - 2) / (n - 1) times as large. The mean
    of the rewards is about -(mean f)^2: it rises to 0, where the means agree. Samples of the same z (groups) depend on
    each other, so there it is not exact. Completions are compared with those that are scored at the same time.

    Samples that the rule has no opinion of have no reward. The data are read when they are needed first: every n-th
    sequence, so that there are 2,500 to 5,000 of them, or all of fewer.

    Args:
        source: as the user gave it, for messages
        rule: see :class:`RuleReward`; of the data it is not told labels
        reader: makes texts of tokens
        run: gives the training data
    """

    def __init__(self, source: str, rule: Rule, reader: Reader, run: Run):
        super().__init__(source, rule, reader)
        self.run = run
        self._data: tuple[float, float] | None = None

    def _judge(self, texts: Texts, references: list[str], labels: list[str] | None) -> list[float]:
        if self._data is None:
            self._data = self._of_data()
        mean, deviation = self._data
        found = [(number - mean) / deviation for number in super()._judge(texts, references, labels)]
        known = [f for f in found if not math.isnan(f)]
        total, others = sum(known), max(len(known) - 1, 1)
        return [f * (f - total) / others for f in found]

    def _of_data(self) -> tuple[float, float]:
        """Mean and standard deviation of the rule over the training data.

        Raises:
            RewardError: the rule says the same of all of them
        """
        numbers: list[float] = []
        rows = evenly(self.run.training_tokens(), MOST)
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            texts = [self.reader.text(row) for row in some]
            numbers += super()._judge(Texts(texts, some, [True] * len(some)), texts, None)
        return to_match(numbers, self.name)


def to_match(numbers: Iterable[float], name: str) -> tuple[float, float]:
    """Mean and standard deviation of what the reward *name* says of training sequences; NaN is left out.

    Raises:
        RewardError: it says the same of all of them
    """
    numbers = [number for number in numbers if not math.isnan(number)]
    if not numbers or min(numbers) == max(numbers):
        raise RewardError(
            f"{name} says {f'{numbers[0]:g}' if numbers else 'None'} of all training sequences, so there is nothing to "
            f"match: give it without {PREFIX}, or another rule."
        )
    mean = math.fsum(numbers) / len(numbers)
    return mean, math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))


def evenly(things: Iterable[Any], most: int) -> list[Any]:
    """Every n-th of *things*, from the first one on, for the least power of two n that leaves at most *most*."""
    kept: list[Any] = []
    step = 1
    for number, thing in enumerate(things):
        if number % step == 0:
            kept.append(thing)
            if len(kept) > most:
                kept, step = kept[::2], step * 2
    return kept
