"""Criterion ``seqvae_pg``: the ELBO, and a policy gradient of the decoder against the discriminator."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq.criterions import register_criterion
from torch import Tensor, nn

from fairseq_seqvae import options
from fairseq_seqvae.core import sequences
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.policy_gradient.reinforce import Credit, policy_terms
from fairseq_seqvae.core.rewards.discriminator import DiscriminatorReward
from fairseq_seqvae.core.rollouts import rollout
from fairseq_seqvae.core.rollouts.policy import RolloutPlan, Trajectory
from fairseq_seqvae.core.schedules.turns import ELBO_TURNS, GENERATOR_PRETRAIN, GENERATOR_TURN, Turn
from fairseq_seqvae.criterions import logged
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.discriminator_turns import DiscriminatorTurns
from fairseq_seqvae.criterions.seqvae_elbo import Model, Result, SeqVAEElboCriterion
from fairseq_seqvae.metrics.variety import count_distinct


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without dropout: what acts, and what judges, must not change from one call to the next."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


@register_criterion("seqvae_pg", dataclass=SeqVAEPolicyGradientConfig)
class SeqVAEPolicyGradientCriterion(DiscriminatorTurns):
    """One turn of one player; the loss is a sum over sequences, nats."""

    is_adversarial = True
    VALIDATION_METRICS = (*SeqVAEElboCriterion.VALIDATION_METRICS, "d_acc_real", "d_acc_fake")

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task: Any):
        super().__init__(cfg, task)
        options.check(cfg, SeqVAEPolicyGradientConfig)
        self.credit = Credit(
            stride=cfg.reward_stride,
            credit=str(cfg.pg_credit),
            baseline=str(cfg.pg_baseline),
            normalize=cfg.pg_normalize,
            entropy_weight=cfg.entropy_weight,
            entropy_floor=cfg.entropy_floor,
        )
        self._reward: DiscriminatorReward | None = None
        self._last_plan: RolloutPlan | None = None

    def forward(
        self,
        model: Model,
        sample: dict[str, Any],
        reduce: bool = True,
        turn: Turn = GENERATOR_PRETRAIN,
        update_num: int = 0,
    ) -> Result:
        """Loss of one turn; see :class:`SeqVAEElboCriterion`."""
        draws = Draws(self.cfg.seed, update_num)
        if not model.training:
            loss, count, log = self.validation(model, sample)
        elif turn in ELBO_TURNS:
            loss, count, log = self.generator_pretrain(model, sample, draws)
        elif turn is GENERATOR_TURN:
            is_shut = self.judgements.threshold and not self.reward_is_used
            its_turn = self.turn_without_reward if is_shut else self.generator_turn
            loss, count, log = its_turn(model, sample, draws)
        else:
            loss, count, log = self.discriminator_turn(model, sample, draws)
        if model.training and self.judgements.interval:
            log |= self.log_judgement(count)
        return loss, count, log | {"ntokens": sample["ntokens"], "nsentences": count, "sample_size": count}

    # -- the generator's turn --

    def generator_turn(self, model: Model, sample: dict[str, Any], draws: Draws) -> Result:
        """ELBO of the batch + policy gradient on trajectories + entropy."""
        cfg, target, ids = self.cfg, sample["target"], sample["id"]
        mask, max_len = target.eq(self.padding_idx), self.task.max_sample_length(target)
        noise, word_keys = draws.noise_and_keys(Stream.POSTERIOR, Stream.WORD_DROPOUT, ids, model.encoder.noise_dim)
        dim = model.prior.noise_dim if cfg.pg_latent == "prior" else model.encoder.noise_dim
        numbers = draws.noise_and_keys(Stream.TRAJECTORY_LATENT, Stream.TRAJECTORY, ids, dim)
        trajectory = self.act(model, sample, *numbers, max_len)
        values = self.rewards(model, trajectory, draws, max_len)

        inputs = {"mode": "generator", "noise": noise, "word_dropout_keys": word_keys, "trajectory": trajectory}
        mix = self.input_mix(ids, draws) if cfg.scheduled_sampling else None
        output = model(**sample["net_input"], **inputs, mix=mix)
        log_likelihood = sequences.token_log_probs(output.logits, target, mask).sum()
        log_probs = sequences.token_log_probs(output.policy_logits, trajectory.tokens, trajectory.mask)
        elbo_loss, log = self.elbo(log_likelihood, output, target, draws.update)
        terms = policy_terms(log_probs, output.policy_logits, *values, trajectory.mask, self.credit)
        pg_loss = terms.loss.sum()
        loss = cfg.elbo_weight * elbo_loss + cfg.pg_weight * pg_loss - cfg.entropy_weight * terms.weighed_entropy.sum()

        given = values.rewards[values.positions]
        log |= {
            "distinct_data": count_distinct(target, mask),
            "distinct": count_distinct(trajectory.tokens, trajectory.mask),
            "pg_loss": pg_loss.detach(),
            "entropy": terms.entropy.sum(),
            "policy_tokens": trajectory.lengths.sum(),
            "reward": given.sum(),
            "reward_squares": given.square().sum(),
            "rewards": given.numel(),
        }
        return loss, sample["nsentences"], log

    @torch.no_grad()
    def act(self, model: Model, sample: dict[str, Any], noise: Tensor, keys: Tensor, max_len: int) -> Trajectory:
        """The sequences that are rewarded, and the z they belong to.

        Args:
            noise: standard normal, for z, (B, noise_dim) of the distribution that it is drawn from
            keys: (B,), of the random numbers that draw the tokens
            max_len: longest sequence, in tokens
        """
        target, net_input = sample["target"], sample["net_input"]
        if self.cfg.pg_latent == "prior":
            z = model.prior.region(noise, self.cfg.pg_region)
        else:
            with evaluating(model.encoder):
                z = model.encoder.draw(net_input["src_tokens"], net_input["src_lengths"], noise).z
        if self.cfg.pg_trajectories == "data":
            mask = target.eq(self.padding_idx)
            return Trajectory(target, sequences.lengths_from_padding(mask), mask, z, sample["id"])
        drawn = rollout.sample(model.decoder, z, keys, max_len)
        return Trajectory(drawn.tokens, drawn.lengths, drawn.mask, z, sample["id"])

    def rewards(self, model: Model, trajectory: Trajectory, draws: Draws, max_len: int) -> rollout.PrefixValues:
        """Values of the rewarded prefixes: completed by the rollout policy, judged by the reward."""
        plan = self._plan(max(trajectory.tokens.size(1), max_len))
        if self._reward is None or self._reward.discriminator is not model.discriminator:
            self._reward = DiscriminatorReward(model.discriminator, self.cfg.reward, self.cfg.disc_scoring)
        with evaluating(model.discriminator):
            return rollout.prefix_values(model.rollout_decoder, self._reward, trajectory, plan, draws)

    def _plan(self, max_len: int) -> RolloutPlan:
        """The plan of rollouts that reach *max_len*."""
        cfg = self.cfg
        if self._last_plan is None or self._last_plan.max_len != max_len:
            self._last_plan = RolloutPlan(cfg.num_rollouts, cfg.reward_stride, max_len, cfg.rollout_chunk)
        return self._last_plan

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log means, see :mod:`fairseq_seqvae.criterions.logged`."""
        super().reduce_metrics(logging_outputs)
        logged.log_policy_gradient(logging_outputs)
        logged.log_discriminator(logging_outputs)
