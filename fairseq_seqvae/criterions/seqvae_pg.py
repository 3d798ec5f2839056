"""Criterion ``seqvae_pg``: the ELBO, and a policy gradient of the decoder for rewards, such as a discriminator's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fairseq.criterions import register_criterion
from torch import Tensor, nn

from fairseq_seqvae.core import sequences
from fairseq_seqvae.core.conditions import joined
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.policy_gradient import reinforce
from fairseq_seqvae.core.rewards.weighted import WeightedRewards
from fairseq_seqvae.core.rollouts import rollout
from fairseq_seqvae.core.rollouts.policy import RolloutPlan, Trajectory
from fairseq_seqvae.core.schedules.turns import ELBO_TURNS, GENERATOR_PRETRAIN, GENERATOR_TURN, Turn
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.discriminator_turns import DiscriminatorTurns
from fairseq_seqvae.criterions.experience import Experience
from fairseq_seqvae.criterions.policy_turns import PolicyTurns
from fairseq_seqvae.criterions.rewarding import Rewarding
from fairseq_seqvae.criterions.seqvae_elbo import Model, Result, SeqVAEElboCriterion
from fairseq_seqvae.metrics.variety import count_distinct


@contextmanager
def evaluating(module: nn.Module | None) -> Iterator[None]:
    """Without dropout: what acts, and what judges, must not change from one call to the next."""
    if module is None:
        yield
        return
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


@register_criterion("seqvae_pg", dataclass=SeqVAEPolicyGradientConfig)
class SeqVAEPolicyGradientCriterion(PolicyTurns, Rewarding, DiscriminatorTurns):
    """One turn of one player; the loss is a sum over sequences, nats."""

    is_adversarial = True
    VALIDATION_METRICS = (*SeqVAEElboCriterion.VALIDATION_METRICS, "d_acc_real", "d_acc_fake")

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task: Any):
        super().__init__(cfg, task)
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
            self.reader.batch, self.scored = (sample["target"], sample["target"].eq(self.padding_idx)), {}
            its_turn = self.turn_without_reward if self.cfg.disc_gate and self.has_no_reward else self.generator_turn
            loss, count, log = its_turn(model, sample, draws)
            log = self.scored | log
        else:
            loss, count, log = self.discriminator_turn(model, sample, draws)
        log |= self.log_judgement(count) if model.training and self.judgements.interval else {}
        return loss, count, log | {"ntokens": sample["ntokens"], "nsentences": count, "sample_size": count}

    def generator_turn(self, model: Model, sample: dict[str, Any], draws: Draws) -> Result:
        """ELBO of the batch + policy gradient on trajectories + entropy + divergence from the reference."""
        cfg, target, ids = self.cfg, sample["target"], sample["id"]
        mask, max_len = target.eq(self.padding_idx), self.task.max_sample_length(target)
        noise, word_keys = draws.noise_and_keys(Stream.POSTERIOR, Stream.WORD_DROPOUT, ids, model.encoder.noise_dim)
        experience = self.reused(model, draws.update) if self.remembers else None
        if experience is None:
            dim = model.prior.noise_dim if cfg.pg_latent == "prior" else model.encoder.noise_dim
            streams = Stream.TRAJECTORY_LATENT, Stream.TRAJECTORY
            numbers = draws.noise_and_keys(*streams, ids, dim, cfg.pg_group_size)
            labels = None if model.conditions is None else self.labels_to_act(model, sample, draws)
            acted = self.act(model, sample, *numbers, max_len, labels)
            values = self.rewards(model, acted, draws, max_len)
            experience = Experience(acted, values if self.seen is None else self.filtered(self.seen, acted, values))
        trajectory = experience.trajectory

        inputs = {"mode": "generator", "noise": noise, "word_dropout_keys": word_keys, "trajectory": trajectory}
        mix = self.input_mix(ids, draws) if cfg.scheduled_sampling else None
        output = model(**sample["net_input"], **inputs, mix=mix)
        log_likelihood = sequences.token_log_probs(output.logits, target, mask).sum()
        log_probs = sequences.token_log_probs(output.policy_logits, trajectory.tokens, trajectory.mask)
        elbo_loss, log = self.elbo(log_likelihood, output, target, draws.update)
        policy_loss, policy_log = self.policy_loss(model, experience, log_probs, output, draws.update)
        if experience.values is not None:
            # One member of each group counts, so that the share is comparable with that of the data.
            members = slice(None, None, cfg.pg_group_size)
            log["distinct_data"] = count_distinct(target, mask)
            log["distinct"] = count_distinct(trajectory.tokens[members], trajectory.mask[members])
        # A mean over the members of groups, and what is reused may be of another number of sentences.
        loss = cfg.elbo_weight * elbo_loss + policy_loss * (len(ids) / len(trajectory.ids))
        return loss, sample["nsentences"], log | policy_log

    def policy_loss(
        self, model: Model, experience: Experience, log_probs: Tensor, output: Any, update: int
    ) -> tuple[Tensor, dict[str, Any]]:
        """Loss of the policy, a sum over its sequences, and what is logged.

        Args:
            experience: what is learned from, R sequences
            log_probs: (R, T), of its tokens, with gradient, 0 at padding
            output: a :class:`fairseq_seqvae.models.outputs.GeneratorOutput`, which they are from
            update: number of the update
        """
        cfg, trajectory, values = self.cfg, experience.trajectory, experience.values
        extra, cost, expected = log_probs.new_zeros(()), None, None
        log: dict[str, Any] = {}
        if model.reference_decoder is not None:
            extra, cost, log = self.reference_terms(model, trajectory, output.policy_logits, update)
        if output.predicted_rewards is not None:
            experience, expected, critic_loss, critic_log = self.criticized(experience, output.predicted_rewards)
            extra, log = extra + cfg.critic_weight * critic_loss, log | critic_log
        known = experience.values, trajectory.mask, self.credit, cost, experience.advantages, expected
        terms = reinforce.policy_terms(log_probs, output.policy_logits, *known)
        pg_loss = terms.loss
        if cfg.pg_loss != "reinforce":
            pg_loss, loss_log = self.other_loss(model, experience, terms.advantages, log_probs)
            log |= loss_log
        loss = cfg.pg_weight * pg_loss.sum() - cfg.entropy_weight * terms.weighed_entropy.sum() + extra
        log |= {
            "pg_loss": pg_loss.detach().sum(),
            "entropy": terms.entropy.sum(),
            "policy_tokens": trajectory.lengths.sum(),
            "policy_sequences": len(trajectory.lengths),
        }
        if values is not None:
            given = values.rewards[values.positions]
            log |= {"reward": given.sum(), "reward_squares": given.square().sum(), "rewards": given.numel()}
            log |= self.log_groups(trajectory, values) if cfg.pg_group_size > 1 else {}
        return loss, log

    @torch.no_grad()
    def act(
        self, model: Model, sample: dict[str, Any], noise: Tensor, keys: Tensor, max_len: int, labels: Any = None
    ) -> Trajectory:
        """The sequences that are rewarded, and the z they belong to.

        Args:
            noise: standard normal, for z, (B, noise_dim) of the distribution that it is drawn from
            keys: (B * size of a group,), of the random numbers that draw the tokens
            max_len: longest sequence, in tokens
            labels: (B,), of the sequences, where such have labels
        """
        target, net_input = sample["target"], sample["net_input"]
        if self.cfg.pg_latent == "prior":
            z = model.prior.region(noise, self.cfg.pg_region)
            z = z if labels is None else joined(z, labels)
        else:
            with evaluating(model.encoder):
                z = model.encoder.draw(net_input["src_tokens"], net_input["src_lengths"], noise, labels).z
        if self.cfg.pg_trajectories == "data":
            mask = target.eq(self.padding_idx)
            return Trajectory(target, sequences.lengths_from_padding(mask), mask, z, sample["id"])
        z, ids = (part.repeat_interleave(self.cfg.pg_group_size, dim=0) for part in (z, sample["id"]))
        drawn = rollout.sample(model.decoder, z, keys, max_len)
        return Trajectory(drawn.tokens, drawn.lengths, drawn.mask, z, ids)

    def rewards(self, model: Model, trajectory: Trajectory, draws: Draws, max_len: int) -> rollout.PrefixValues:
        """Values of the rewarded prefixes: completed by the rollout policy, judged by the rewards."""
        if self.judge is not model.discriminator:
            self.bind(model)
        if self.judgements.threshold and isinstance(self.reward, WeightedRewards):
            self.reward.let_discriminator_count(self.reward_is_used)
        if model.conditions is not None:
            self.tell_labels(model, trajectory)
        with evaluating(model.discriminator):
            if self.cfg.value != "rollouts":
                values = rollout.final_values(self.reward, trajectory)
            else:
                plan = self._plan(max(trajectory.tokens.size(1), max_len))
                values = rollout.prefix_values(model.rollout_decoder, self.reward, trajectory, plan, draws)
        whole = values.rewards.gather(1, trajectory.lengths.unsqueeze(1) - 1)
        self.scored = {"groups": 1, "zero_std_groups": (whole == whole[0]).all().long()}
        if isinstance(self.reward, WeightedRewards):
            self.scored |= self.reward.statistics()
        if len(whole) == 1:
            self.warn_of_one_sequence()
        return values

    def _plan(self, max_len: int) -> RolloutPlan:
        """The plan of rollouts that reach *max_len*."""
        cfg = self.cfg
        if self._last_plan is None or self._last_plan.max_len != max_len:
            self._last_plan = RolloutPlan(cfg.num_rollouts, cfg.reward_stride, max_len, cfg.rollout_chunk)
        return self._last_plan
