"""When a discriminator is judged on held-out data, and whether its reward is used after that."""

from dataclasses import dataclass
from typing import NamedTuple


class Judgement(NamedTuple):
    """The last judgement.

    Attributes:
        update: number of the update before which it was made
        accuracy: share of held-out sequences and of fresh samples, half each, that the discriminator told correctly
    """

    update: float
    accuracy: float


@dataclass(frozen=True)
class JudgementPlan:
    """When judgements are made, and what follows from them.

    Attributes:
        interval: updates from one to the next; 0: none
        threshold: accuracy from which on the discriminator's reward is used; 0: always
    """

    interval: int = 0
    threshold: float = 0.0

    def is_due(self, update: int, adversarial_from: int, last: Judgement | None) -> bool:
        """Whether one is made before the update that is about to be made, counted from 0.

        A new run, which began with the parameters of another, forgets a later one. The first update in which the
        reward counts never relies on an older one.

        Args:
            update: a number of an update before which the discriminator has moved at least once
            adversarial_from: number of the first adversarial update
            last: the one before, or None
        """
        if not self.interval or (last is not None and last.update == update):
            return False
        if last is None or last.update > update or update == adversarial_from:
            return True
        return update - last.update >= self.interval

    def is_open(self, last: Judgement | None) -> bool:
        """Whether the reward is used: with a threshold not before a judgement has reached it."""
        return not self.threshold or (last is not None and last.accuracy >= self.threshold)
