"""Lagging inference: early in training the encoder moves several times before each move of the whole model."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from fairseq_seqvae.core.schedules.turns import ENCODER_TURN, GENERATOR_PRETRAIN, Turn


class LaggingState(NamedTuple):
    """What validations have shown.

    Attributes:
        judged_at: number of updates before the last validation that counted
        mutual_information: of data and latent in that validation, nats
        ended_at: number of updates after which all further ones move the whole model
    """

    judged_at: float = 0
    mutual_information: float = -math.inf
    ended_at: float = math.inf


@dataclass(frozen=True)
class LaggingPlan:
    """Turns of the encoder alone within the pre-training of the generator.

    He et al. 2019, "Lagging inference networks and posterior collapse": while the posterior lags behind the model, the
    encoder alone is trained until the bound stops improving, then everything once; this ends for good when the mutual
    information on held-out data falls. Here the number of the encoder's updates is fixed instead, so that the number
    of an update and the state are all that a turn depends on.

    Attributes:
        encoder_updates: updates of the encoder alone before each update of all
        until: number of updates of the run after which it ends at the latest
    """

    encoder_updates: int
    until: int

    def goes_on(self, updates: int, state: LaggingState) -> bool:
        """Whether it has not ended after so many *updates*."""
        return updates < min(self.until, state.ended_at)

    def turn(self, update: int, planned: Turn, state: LaggingState) -> Turn:
        """The turn of the update that is about to be made, counted from 0; *planned* is the one without this plan."""
        if planned is not GENERATOR_PRETRAIN or not self.goes_on(update, state):
            return planned
        return ENCODER_TURN if update % (self.encoder_updates + 1) < self.encoder_updates else planned

    def observe(self, updates: int, mutual_information: float, state: LaggingState) -> LaggingState:
        """The state after a validation; a second one after as many updates does not count.

        Args:
            updates: made before the validation
            mutual_information: of data and latent, nats
        """
        if updates == state.judged_at:
            return state
        if updates < state.judged_at:  # a new run, which began with the parameters of another
            state = LaggingState()
        has_fallen = mutual_information < state.mutual_information
        ended_at = min(state.ended_at, updates) if has_fallen else state.ended_at
        return LaggingState(updates, mutual_information, ended_at)
