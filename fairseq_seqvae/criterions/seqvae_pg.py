"""Criterion ``seqvae_pg``: the ELBO, and a policy gradient of the decoder against the discriminator."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq.criterions import register_criterion
from torch import Tensor, nn

from fairseq_seqvae import options
from fairseq_seqvae.core import sequences
from fairseq_seqvae.core.discriminators.losses import correct_judgements, discriminator_loss, output_penalty
from fairseq_seqvae.core.discriminators.pool import FakePool
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.policy_gradient.baselines import advantages
from fairseq_seqvae.core.policy_gradient.losses import entropy_above_floor, policy_gradient_loss, token_entropy
from fairseq_seqvae.core.policy_gradient.returns import returns_of_prefixes, reward_positions
from fairseq_seqvae.core.rewards.discriminator import DiscriminatorReward
from fairseq_seqvae.core.rewards.values import prefix_values
from fairseq_seqvae.core.rollouts.policy import RolloutPlan, Samples, Trajectory
from fairseq_seqvae.core.rollouts.sampling import sample as sample_policy
from fairseq_seqvae.core.schedules.turns import GENERATOR_PRETRAIN, GENERATOR_TURN, Turn
from fairseq_seqvae.criterions import logged
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.seqvae_elbo import Result, SeqVAEElboCriterion


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
class SeqVAEPolicyGradientCriterion(SeqVAEElboCriterion):
    """One turn of one player; the loss is a sum over sequences, nats."""

    is_adversarial = True
    VALIDATION_METRICS = (*SeqVAEElboCriterion.VALIDATION_METRICS, "d_acc_real", "d_acc_fake")

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task: Any):
        super().__init__(cfg, task)
        options.check(cfg, SeqVAEPolicyGradientConfig)
        self.pool = FakePool(cfg.fake_pool, cfg.fake_reuse) if cfg.fake_pool else None

    def forward(
        self,
        model: nn.Module,
        sample: dict[str, Any],
        reduce: bool = True,
        turn: Turn = GENERATOR_PRETRAIN,
        update_num: int = 0,
    ) -> Result:
        """Loss of one turn; see :class:`SeqVAEElboCriterion`."""
        if not model.training:
            return self.validation(model, sample)
        draws = Draws(self.cfg.seed, update_num)
        if turn is GENERATOR_PRETRAIN:
            return self.generator_pretrain(model, sample, draws)
        if turn is GENERATOR_TURN:
            return self.generator_turn(model, sample, draws)
        return self.discriminator_turn(model, sample, draws)

    # -- the generator's turn --

    def generator_turn(self, model: nn.Module, sample: dict[str, Any], draws: Draws) -> Result:
        """ELBO of the batch + policy gradient on trajectories + entropy."""
        cfg, target = self.cfg, sample["target"]
        trajectory = self.act(model, sample, draws)
        rewards = self.rewards(model, trajectory, draws)
        returns = returns_of_prefixes(rewards, trajectory.lengths, cfg.reward_stride, cfg.pg_credit)
        advantage = advantages(returns, trajectory.mask, cfg.pg_baseline, cfg.pg_normalize)

        previous = sequences.shift_right(trajectory.tokens, model.decoder.eos, self.padding_idx, trajectory.lengths)
        inputs = self.generator_inputs(model, sample, draws) | {"policy_inputs": (previous, trajectory.z)}
        output = model(**sample["net_input"], **inputs)
        elbo_loss, log = self.elbo(output.logits, output.posterior, target, draws.update)
        log_probs = sequences.token_log_probs(output.policy_logits, trajectory.tokens, trajectory.mask)
        pg_loss = policy_gradient_loss(log_probs, advantage).sum()
        with torch.set_grad_enabled(cfg.entropy_weight != 0):
            entropy = token_entropy(output.policy_logits, trajectory.mask).sum(dim=1)
        weighed = entropy_above_floor(entropy, trajectory.lengths, cfg.entropy_weight, cfg.entropy_floor)
        loss = cfg.elbo_weight * elbo_loss + cfg.pg_weight * pg_loss - cfg.entropy_weight * weighed.sum()

        given = rewards[reward_positions(trajectory.lengths, rewards.size(1), cfg.reward_stride)]
        log |= self.variety(target, target.eq(self.padding_idx), trajectory.tokens, trajectory.mask)
        log |= {
            "pg_loss": pg_loss.detach(),
            "entropy": entropy.detach().sum(),
            "policy_tokens": trajectory.lengths.sum(),
            "reward": given.sum(),
            "reward_squares": given.square().sum(),
            "rewards": given.numel(),
        }
        return loss, sample["nsentences"], self.counts(sample) | log

    @torch.no_grad()
    def act(self, model: nn.Module, sample: dict[str, Any], draws: Draws) -> Trajectory:
        """The sequences that are rewarded, and the z they belong to."""
        cfg, ids, target = self.cfg, sample["id"], sample["target"]
        noise = draws.normal(Stream.TRAJECTORY_LATENT, ids, model.prior.noise_dim)
        if cfg.pg_latent == "prior":
            z = model.prior.region(noise, cfg.pg_region)
        else:
            with evaluating(model.encoder):
                net_input = sample["net_input"]
                z = model.encoder.posterior(net_input["src_tokens"], net_input["src_lengths"]).sample(noise)
        if cfg.pg_trajectories == "data":
            return Trajectory(target, sequences.lengths_from_padding(target.eq(self.padding_idx)), z, ids)
        max_len = self.task.max_sample_length(target)
        sampled = sample_policy(model.decoder, z, draws.keys(Stream.TRAJECTORY, ids), max_len)
        return Trajectory(sampled.tokens, sampled.lengths, z, ids)

    def rewards(self, model: nn.Module, trajectory: Trajectory, draws: Draws) -> Tensor:
        """Values of the rewarded prefixes, (B, T): completed by the rollout policy, judged by the reward."""
        cfg = self.cfg
        max_len = max(trajectory.tokens.size(1), self.task.max_sample_length(trajectory.tokens))
        plan = RolloutPlan(cfg.num_rollouts, cfg.reward_stride, max_len, cfg.rollout_chunk)
        reward = DiscriminatorReward(model.discriminator, cfg.reward, cfg.disc_scoring)
        with evaluating(model.discriminator):
            return prefix_values(model.rollout_decoder, reward, trajectory, plan, draws)

    # -- the discriminator's turn --

    def discriminator_turn(self, model: nn.Module, sample: dict[str, Any], draws: Draws) -> Result:
        """Binary cross-entropy of the batch against as many samples with z from the prior."""
        target = sample["target"]
        fakes = self.fakes(model, sample["id"], draws, self.task.max_sample_length(target))
        logits_real, logits_fake = model(
            **sample["net_input"] | {"src_tokens": target},
            mode="discriminator",
            real_mask=target.eq(self.padding_idx),
            fake_tokens=fakes.tokens,
            fake_mask=fakes.mask,
        )
        loss_real, loss_fake = discriminator_loss(logits_real, logits_fake, self.cfg.disc_label_smoothing)
        loss = (loss_real.sum() + loss_fake.sum()) / 2
        log = {"d_loss": loss.detach()} | _judgements(logits_real, logits_fake)
        if self.cfg.disc_l2:
            loss = loss + self.cfg.disc_l2 * sample["nsentences"] * output_penalty(model.discriminator)
        return loss, sample["nsentences"], self.counts(sample) | log

    def fakes(self, model: nn.Module, ids: Tensor, draws: Draws, max_len: int) -> Samples:
        """One sample of the decoder for each of *ids* (B,), fresh or from the pool."""

        def fresh(ids: Tensor, draws: Draws, max_len: int) -> Samples:
            return self.prior_samples(model, ids, draws, Stream.FAKE_LATENT, Stream.FAKE, max_len)

        if self.pool is None:
            return fresh(ids, draws, max_len)
        rests_since = self.task.plan.generator_rests_since(draws.update)
        return self.pool.fakes(fresh, ids, draws, rests_since, max_len)

    def validate_discriminator(self, model: nn.Module, target: Tensor, samples: Samples) -> dict[str, Any]:
        """Accuracy on held-out data and fresh samples: training data can be memorised."""
        if model.discriminator is None or not self.task.judges_discriminator:
            return {}
        logits_real = model.discriminator(target, target.eq(self.padding_idx))
        return _judgements(logits_real, model.discriminator(samples.tokens, samples.mask))

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log means, see :mod:`fairseq_seqvae.criterions.logged`."""
        super().reduce_metrics(logging_outputs)
        logged.log_policy_gradient(logging_outputs)
        logged.log_discriminator(logging_outputs)


def _judgements(logits_real: Tensor, logits_fake: Tensor) -> dict[str, Any]:
    correct_real, correct_fake = correct_judgements(logits_real, logits_fake)
    return {
        "d_correct_real": correct_real,
        "d_correct_fake": correct_fake,
        "d_num_real": logits_real.numel(),
        "d_num_fake": logits_fake.numel(),
    }
