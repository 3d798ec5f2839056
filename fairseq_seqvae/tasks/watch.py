"""Watches the numbers of a training for the task: what cannot recover ends it, the rest warns once."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fairseq_seqvae.core.schedules.turns import DISCRIMINATOR_PRETRAIN, Turn
from fairseq_seqvae.rewards.sources import DISCRIMINATOR, uses_discriminator
from fairseq_seqvae.support.manners import ExplainedError
from fairseq_seqvae.support.processes import is_master
from fairseq_seqvae.tasks import alarms, policy_alarms

logger = logging.getLogger(__name__)

# A held-out set is small: alarms about it judge the mean of this many validations.
VALIDATION_WINDOW = 3


class Watch:
    """The alarms of one run. A resumed run starts them again, so that its own log contains them.

    Args:
        training_rules: rules about the numbers of updates
        window: number of updates over which these are averaged; 0 switches all alarms off
        latent_rules: rules about the numbers of all validations
    """

    def __init__(
        self, training_rules: Sequence[alarms.Rule] = (), window: int = 0, latent_rules: Sequence[alarms.Rule] = ()
    ):
        validations = VALIDATION_WINDOW if window else 0
        self._training = alarms.Alarms(training_rules, window)
        self._latent = alarms.Alarms(latent_rules, validations)
        self._adversarial = alarms.Alarms(alarms.adversarial_validation_rules(), validations)
        self._kl_weight: dict[str, float] = {}  # that of the last update which had one
        self._warned: set[str] = set()

    @classmethod
    def of_run(cls, task_cfg: Any, criterion_cfg: Any, has_latent: bool) -> "Watch":
        """The alarms for the configurations of a task and of an ELBO or adversarial criterion.

        Without a latent, no divergence is too small and nothing is reconstructed.
        """
        first_update = task_cfg.alarm_window
        sources = str(getattr(criterion_cfg, "reward_sources", DISCRIMINATOR))
        rules = alarms.training_rules(
            task_cfg.alarm_kl if has_latent else 0.0,  # no divergence is below 0
            criterion_cfg.kl_weight,
            first_update,
            getattr(criterion_cfg, "reward", None) == "prob" and sources == DISCRIMINATOR,
            uses_discriminator(sources),
        )
        rules += policy_alarms.policy_rules(criterion_cfg, task_cfg.alarm_ref_kl)
        latent_rules = alarms.latent_rules(criterion_cfg.kl_weight, first_update) if has_latent else []
        return cls(rules, task_cfg.alarm_window, latent_rules)

    def update(self, logged: Mapping[str, Any], turn: Turn, update_num: int, training: bool) -> None:
        """Judge the meters of one update, or of one batch of a validation.

        Raises:
            ExplainedError: a loss is not finite although its gradient was, which no loss scaling will repair
        """
        numbers = _means(logged)
        if training and "kl_weight" in numbers:
            self._kl_weight = {"kl_weight": numbers["kl_weight"]}
        if bad := alarms.non_finite(numbers):
            problem = f"NaN or infinite: {', '.join(bad)}"
            if training and not set(bad).isdisjoint(alarms.LOSSES):
                raise ExplainedError(alarms.breakdown(problem, turn, update_num + 1))
            self._warn([problem], update_num)
        # Until the generator responds to it, a discriminator may win or lose as it likes.
        elif training and turn is not DISCRIMINATOR_PRETRAIN:
            self._warn(self._training.observe(numbers | {"update": update_num}), update_num)

    def validation(self, logged: Mapping[str, Any], update_num: int, is_adversarial: bool) -> None:
        """Judge the meters of a whole validation; some rules count in the adversarial part only."""
        numbers = _means(logged) | self._kl_weight | {"update": update_num}
        messages = self._latent.observe(numbers)
        if is_adversarial:
            messages += self._adversarial.observe(numbers)
        self._warn(messages, update_num)

    def _warn(self, messages: Sequence[str], update_num: int) -> None:
        for message in messages:
            if message not in self._warned and is_master():
                self._warned.add(message)
                logger.warning(f"after update {update_num + 1}: {message}")


def _means(logged: Mapping[str, Any]) -> dict[str, float]:
    """Averages of the meters that alarms read and that hold a number."""
    means = {key: logged[key].avg for key in alarms.WATCHED if key in logged}
    return {key: value for key, value in means.items() if value is not None}
