"""The rewards of a training: which there are, and the discriminator's among them."""

import logging
from collections.abc import Iterator
from typing import Any

from fairseq_seqvae import options
from fairseq_seqvae.core.conditions import parted
from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rewards.conditioned import ConditionedReward
from fairseq_seqvae.core.rewards.discriminator import DiscriminatorReward
from fairseq_seqvae.core.rollouts.policy import Trajectory
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.seqvae_elbo import Model, SeqVAEElboCriterion
from fairseq_seqvae.rewards.registry import Run
from fairseq_seqvae.rewards.sources import DISCRIMINATOR, Sources, load_sources, uses_discriminator
from fairseq_seqvae.rewards.texts import Reader
from fairseq_seqvae.support.processes import is_master

logger = logging.getLogger(__name__)


def warn_of_idle_rollouts(cfg: SeqVAEPolicyGradientConfig) -> None:
    """Warn of options of rollouts that ``--value final`` has no use for: they were given for another way."""
    defaults = SeqVAEPolicyGradientConfig()
    given = {name: getattr(cfg, name) for name in ("num_rollouts", "reward_stride")}
    idle = [f"{options.flag(name)} {value}" for name, value in given.items() if value != getattr(defaults, name)]
    if cfg.value == "final" and idle and is_master():
        logger.warning(
            f"{' and '.join(idle)}: without effect, since --value final judges whole sequences; add --value rollouts "
            "to complete prefixes"
        )


class Rewarding(SeqVAEElboCriterion):
    """A criterion that has rewards.

    Attributes:
        uses_discriminator: whether the discriminator is among them
        reader: makes texts of tokens for the rewards that need some
        reward: all rewards as one, for the model that they are bound to
        judge: the discriminator of that model, or None
        by_label: its reward, where sequences have labels
        scored: what is logged of the sequences that were scored last
    """

    reward: Reward

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task: Any):
        super().__init__(cfg, task)
        options.check(cfg, SeqVAEPolicyGradientConfig)
        self.uses_discriminator = uses_discriminator(cfg.reward_sources)
        self.reader = Reader(task.target_dictionary)
        self.judge: Any = ...  # not bound yet
        self.scored: dict[str, Any] = {}
        self.by_label: ConditionedReward | None = None
        self._warned = False
        self._sources: Sources | None = None
        # Elsewhere, as in fairseq-validate, the flags are those of a checkpoint, which could name any file.
        if getattr(task, "in_training", False):
            warn_of_idle_rollouts(cfg)
            if cfg.reward_sources != DISCRIMINATOR:
                self.reader.decoders = task.text_decoders()
            run = Run(task.target_dictionary, self._training_texts, str(task.cfg.data), self._training_tokens)
            what = cfg.reward_sources, cfg.reward_weights, run, self.reader
            self._sources = load_sources(*what, cfg.reward_workers)

    def _training_tokens(self) -> Iterator[list[int]]:
        for tokens in self.task.training_sequences():
            yield [token for token in tokens.tolist() if token != self.reader.eos]

    def _training_texts(self) -> Iterator[str]:
        return map(self.reader.text, self._training_tokens())

    def bind(self, model: Model) -> None:
        """Make the reward of a model, whose discriminator may be part of it.

        Raises:
            RuntimeError: the criterion was not built in a training
        """
        if self._sources is None:
            raise RuntimeError("rewards are loaded in a training only: let the task build the model to train first.")
        self.judge = model.discriminator
        how = str(self.cfg.reward), str(self.cfg.disc_scoring)
        self.by_label = None

        def discriminators() -> Reward:
            reward = DiscriminatorReward(self.judge, *how)
            if model.conditions is None:
                return reward
            self.by_label = ConditionedReward(reward)
            return self.by_label

        self.reward = self._sources.reward(discriminators)

    def tell_labels(self, model: Model, trajectory: Trajectory) -> None:
        """Let the rewards know the labels of the sequences that they score next."""
        _, labels = parted(trajectory.z)
        if self.by_label is not None:
            self.by_label.label_tokens = model.conditions.tokens(labels)
        self.reader.labels = [model.conditions.names[label] for label in labels.tolist()]

    def warn_of_one_sequence(self) -> None:
        """Say once that a baseline which compares sequences has nothing to compare in a batch of one."""
        if self.cfg.pg_baseline != "none" and not self._warned:
            self._warned = True
            logger.warning(
                f"a batch has one sentence, so --pg-baseline {self.cfg.pg_baseline} has no other to compare it with, "
                "and its policy gradient is 0: use larger batches, or --pg-baseline none"
            )

    def validation_metrics(self, has_latent: bool) -> list[str]:
        """See :meth:`SeqVAEElboCriterion.validation_metrics`."""
        known = super().validation_metrics(has_latent)
        return known if self.uses_discriminator else [name for name in known if not name.startswith("d_acc")]
