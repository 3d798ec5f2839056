"""Looks at the numbers of a training for the task: what is never repaired by itself ends it, the rest warns once."""

import logging
from collections.abc import Mapping, Sequence

from fairseq_seqvae import compat
from fairseq_seqvae.core.schedules.turns import DISCRIMINATOR_PRETRAIN, Turn
from fairseq_seqvae.tasks import alarms

logger = logging.getLogger(__name__)

# A held-out set is small: what alarms say of it is the mean of so many validations.
VALIDATION_WINDOW = 3


class Watch:
    """The alarms of one run. They begin anew with each: the user of one that was resumed shall read of them in its log.

    Args:
        training_rules: rules of the numbers of updates
        window: number of updates over which they are averaged; 0 switches all alarms off
    """

    def __init__(self, training_rules: Sequence[alarms.Rule] = (), window: int = 0):
        self._training = alarms.Alarms(training_rules, window)
        self._validation = alarms.Alarms(alarms.validation_rules(), VALIDATION_WINDOW if window else 0)
        self._warned: set[str] = set()

    @classmethod
    def of_run(cls, task_cfg, criterion_cfg, has_latent: bool) -> "Watch":
        """The alarms for an ELBO or an adversarial criterion; without a latent no divergence is too small."""
        rules = alarms.training_rules(
            task_cfg.alarm_kl if has_latent else 0.0,  # which no divergence is below
            criterion_cfg.kl_weight,
            task_cfg.alarm_window,
            getattr(criterion_cfg, "reward", None) == "prob",
        )
        return cls(rules, task_cfg.alarm_window)

    def update(self, logged, turn: Turn, update_num: int, training: bool) -> None:
        """Look at the meters of one update, or of one batch of a validation.

        Raises:
            compat.ExplainedError: a loss is not finite although its gradient was, which no loss scaling will repair.
        """
        numbers = _means(logged)
        if bad := alarms.non_finite(numbers):
            problem = f"NaN or infinite: {', '.join(bad)}"
            if training and not set(bad).isdisjoint(alarms.LOSSES):
                raise compat.ExplainedError(alarms.breakdown(problem, turn, update_num + 1))
            self._warn([problem], update_num)
        # A discriminator may win and lose as it likes before the generator answers it.
        elif training and turn is not DISCRIMINATOR_PRETRAIN:
            self._warn(self._training.observe(numbers | {"update": update_num}), update_num)

    def validation(self, logged, update_num: int) -> None:
        """Look at the meters of a whole validation of the adversarial part."""
        self._warn(self._validation.observe(_means(logged)), update_num)

    def _warn(self, messages: list[str], update_num: int) -> None:
        for message in messages:
            if message not in self._warned and compat.is_master():
                self._warned.add(message)
                logger.warning(f"after update {update_num + 1}: {message}")


def _means(logged: Mapping) -> dict[str, float]:
    """Those of fairseq's meters that alarms look at and that hold a number."""
    means = {key: logged[key].avg for key in alarms.WATCHED if key in logged}
    return {key: value for key, value in means.items() if value is not None}
