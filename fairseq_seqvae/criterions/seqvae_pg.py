"""Criterion ``seqvae_pg``: the ELBO, and a policy gradient of the decoder against the discriminator."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from fairseq.criterions import register_criterion
from fairseq.logging import metrics
from torch import Tensor, nn

from fairseq_seqvae import options
from fairseq_seqvae.core import noise, rollouts, sequences
from fairseq_seqvae.core.discriminators.losses import discriminator_loss
from fairseq_seqvae.core.discriminators.scoring import completion_logits
from fairseq_seqvae.core.latents.gaussian import upper_tail
from fairseq_seqvae.core.noise import Stream
from fairseq_seqvae.core.policy_gradient.baselines import advantages
from fairseq_seqvae.core.policy_gradient.losses import policy_gradient_loss, token_entropy
from fairseq_seqvae.core.policy_gradient.returns import absorb_end, reward_positions, token_returns
from fairseq_seqvae.core.rewards.discriminator import reward_from_logits
from fairseq_seqvae.core.schedules.turns import Turn
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.seqvae_elbo import SeqVAEElboCriterion


class Trajectory(NamedTuple):
    """What the policy did.

    Attributes:
        tokens: (B, T)
        lengths: (B,)
        mask: (B, T), True = padding
        z: (B, Z), the latent vectors that the tokens were drawn with
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor
    z: Tensor


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
    """One turn of one player, by :class:`fairseq_seqvae.schedules.Turn`; the loss is a sum over sequences, nats."""

    is_adversarial = True
    VALIDATION_METRICS = (*SeqVAEElboCriterion.VALIDATION_METRICS, "d_acc_real", "d_acc_fake")

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task):
        super().__init__(cfg, task)
        options.check(cfg, SeqVAEPolicyGradientConfig)
        self._pool: tuple[tuple[int, int], rollouts.Samples] | None = None

    def forward(
        self, model, sample, reduce: bool = True, turn: Turn = Turn.GENERATOR_PRETRAIN, update_num: int = 0
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss of one turn; see :class:`SeqVAEElboCriterion`."""
        if not model.training:
            return self.validation(model, sample)
        if turn is Turn.GENERATOR_PRETRAIN:
            return self.generator_pretrain(model, sample, update_num)
        if turn is Turn.GENERATOR:
            return self.generator_turn(model, sample, update_num)
        return self.discriminator_turn(model, sample, update_num)

    # -- the generator's turn --

    def generator_turn(self, model, sample, update_num: int) -> tuple[Tensor, int, dict[str, Any]]:
        """ELBO of the batch + policy gradient on trajectories + entropy bonus."""
        cfg = self.cfg
        trajectory = self.act(model, sample, update_num)
        positions = reward_positions(trajectory.lengths, trajectory.tokens.size(1), cfg.reward_stride)
        rewards = self.rewards(model, trajectory, sample["id"], update_num)
        given = rewards[positions]
        if cfg.pg_credit == "to-go":
            rewards, positions = absorb_end(rewards, positions, trajectory.lengths, cfg.reward_stride)
        returns = token_returns(rewards, positions, trajectory.mask, cfg.pg_credit)
        advantage = advantages(returns, trajectory.mask, cfg.pg_baseline, cfg.pg_normalize)

        eos = model.decoder.eos
        policy_inputs = (
            sequences.shift_right(trajectory.tokens, eos, self.padding_idx, trajectory.lengths),
            trajectory.z,
        )
        output = model(
            **sample["net_input"],
            **self.generator_inputs(model, sample, update_num),
            policy_inputs=policy_inputs,
        )
        elbo_loss, log = self.elbo(output.logits, output.posterior, sample["target"], update_num)
        log_probs = sequences.token_log_probs(output.policy_logits, trajectory.tokens, trajectory.mask)
        pg_loss = policy_gradient_loss(log_probs, advantage).sum()
        with torch.set_grad_enabled(cfg.entropy_weight != 0):
            entropy = token_entropy(output.policy_logits, trajectory.mask).sum(dim=1)
        weighed = entropy
        if cfg.entropy_weight < 0:
            weighed = (entropy - cfg.entropy_floor * trajectory.lengths).clamp(min=0)
        loss = cfg.elbo_weight * elbo_loss + cfg.pg_weight * pg_loss - cfg.entropy_weight * weighed.sum()

        data_mask = sample["target"].eq(self.padding_idx)
        log |= self.variety(sample["target"], data_mask, trajectory.tokens, trajectory.mask)
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
    def act(self, model, sample, update_num: int) -> Trajectory:
        """The sequences that are rewarded, and the z they belong to."""
        cfg, ids, target = self.cfg, sample["id"], sample["target"]
        latent_noise = noise.normal(
            noise.row_keys(cfg.seed, update_num, Stream.TRAJECTORY_LATENT, ids), model.encoder.latent_dim
        )
        if cfg.pg_latent == "prior":
            z = latent_noise if cfg.pg_region == 1 else upper_tail(latent_noise, cfg.pg_region)
        else:
            with evaluating(model.encoder):
                net_input = sample["net_input"]
                z = model.encoder.posterior(net_input["src_tokens"], net_input["src_lengths"]).sample(latent_noise)
        if cfg.pg_trajectories == "data":
            mask = target.eq(self.padding_idx)
            return Trajectory(target, sequences.lengths_from_padding(mask), mask, z)
        samples = rollouts.sample(
            model.decoder,
            z,
            noise.row_keys(cfg.seed, update_num, Stream.TRAJECTORY, ids),
            self.task.max_sample_length(target),
            model.decoder.eos,
            self.padding_idx,
        )
        mask = sequences.padding_mask(samples.lengths, samples.tokens.size(1))
        return Trajectory(samples.tokens, samples.lengths, mask, z)

    def rewards(self, model, trajectory: Trajectory, ids: Tensor, update_num: int) -> Tensor:
        """Values of the rewarded prefixes, (B, T): completed by the rollout policy, judged by the discriminator."""
        cfg = self.cfg

        def score(tokens: Tensor, mask: Tensor) -> Tensor:
            return reward_from_logits(model.discriminator(tokens, mask), cfg.reward)

        def score_completions(completions: rollouts.Completions) -> Tensor:
            logits = completion_logits(model.discriminator, completions, trajectory.tokens, cfg.disc_scoring)
            return reward_from_logits(logits, cfg.reward)

        def keys(rows: Tensor, numbers: Tensor) -> Tensor:
            return noise.row_keys(cfg.seed, update_num, Stream.ROLLOUT, ids[rows], numbers)

        with evaluating(model.discriminator):
            return rollouts.prefix_values(
                model.rollout_decoder,
                score,
                trajectory.tokens,
                trajectory.lengths,
                trajectory.z,
                num_rollouts=cfg.num_rollouts,
                stride=cfg.reward_stride,
                max_len=max(trajectory.tokens.size(1), self.task.max_sample_length(trajectory.tokens)),
                keys_fn=keys,
                eos=model.decoder.eos,
                pad=self.padding_idx,
                chunk_rows=cfg.rollout_chunk,
                score_completions=score_completions,
            )

    # -- the discriminator's turn --

    def discriminator_turn(self, model, sample, update_num: int) -> tuple[Tensor, int, dict[str, Any]]:
        """Binary cross-entropy of the batch against as many samples with z from the prior."""
        target = sample["target"]
        fakes = self.fakes(model, sample["id"], update_num, self.task.max_sample_length(target))
        logits_real, logits_fake = model(
            **sample["net_input"] | {"src_tokens": target},
            mode="discriminator",
            real_mask=target.eq(self.padding_idx),
            fake_tokens=fakes.tokens,
            fake_mask=sequences.padding_mask(fakes.lengths, fakes.tokens.size(1)),
        )
        loss_real, loss_fake = discriminator_loss(logits_real, logits_fake, self.cfg.disc_label_smoothing)
        loss = (loss_real.sum() + loss_fake.sum()) / 2
        log = {"d_loss": loss.detach()} | _accuracy(logits_real, logits_fake)
        if self.cfg.disc_l2:
            loss = loss + self.cfg.disc_l2 * sample["nsentences"] * _output_penalty(model.discriminator)
        return loss, sample["nsentences"], self.counts(sample) | log

    def fakes(self, model, ids: Tensor, update_num: int, max_len: int) -> rollouts.Samples:
        """One sample of the decoder for each of *ids* (B,), fresh or from the pool.

        The pool is that of the first of the updates that share it. All of them lie between two moves of the generator,
        its random numbers are those of that first update and of the places in the pool, and which fake a sentence
        gets depends on the seed, the update and the sentence. So a resumed run makes the same pool again, and several
        processes make the same one: each spends the whole time for it, but none depends on the batches of the others.
        """
        streams = Stream.FAKE_LATENT, Stream.FAKE
        if self.cfg.fake_pool == 0:
            return self.prior_samples(model, ids, update_num, *streams, max_len)
        since = self.task.plan.discriminator_since(update_num)
        first = update_num - (update_num - since) % self.cfg.fake_reuse
        if self._pool is None or self._pool[0] != (first, max_len):
            places = torch.arange(self.cfg.fake_pool, device=ids.device)
            self._pool = (first, max_len), self.prior_samples(model, places, first, *streams, max_len)
        pool = self._pool[1]
        chance = noise.uniform(noise.row_keys(self.cfg.seed, update_num, Stream.FAKE_CHOICE, ids), 0)
        chosen = (chance.double() * self.cfg.fake_pool).long()
        lengths = pool.lengths[chosen]
        return rollouts.Samples(pool.tokens[chosen, : int(lengths.max())], lengths, None)

    def validate_discriminator(self, model, target, mask, fake_tokens, fake_mask) -> dict[str, Any]:
        """Accuracy on held-out data and fresh samples: accuracy on the training data can be learnt by heart."""
        if model.discriminator is None:
            return {}
        return _accuracy(model.discriminator(target, mask), model.discriminator(fake_tokens, fake_mask))

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log means; of losses in nats a sequence, of entropy in nats a token."""
        super().reduce_metrics(logging_outputs)

        def total(key: str) -> float:
            return float(sum(log.get(key, 0) for log in logging_outputs))

        sentences = total("nsentences")
        if total("rewards"):
            count = total("rewards")
            mean = total("reward") / count
            spread = max(total("reward_squares") / count - mean**2, 0.0) ** 0.5
            metrics.log_scalar("pg_loss", total("pg_loss") / sentences, sentences, round=4, priority=70)
            metrics.log_scalar("reward", mean, count, round=4, priority=71)
            metrics.log_scalar("reward_std", spread, count, round=4, priority=72)
            tokens = total("policy_tokens")
            metrics.log_scalar("entropy", total("entropy") / tokens, tokens, round=3, priority=73)
        if any("d_loss" in log for log in logging_outputs):
            metrics.log_scalar("d_loss", total("d_loss") / sentences, sentences, round=4, priority=74)
        for kind in ("real", "fake"):
            if total(f"d_num_{kind}"):
                metrics.log_scalar(
                    f"d_acc_{kind}",
                    total(f"d_correct_{kind}") / total(f"d_num_{kind}"),
                    total(f"d_num_{kind}"),
                    round=3,
                    priority=75,
                )


def _accuracy(logits_real: Tensor, logits_fake: Tensor) -> dict[str, Any]:
    """How many sequences the discriminator judges rightly; a logit of exactly 0 counts half."""
    return {
        "d_correct_real": ((logits_real > 0).float() + 0.5 * (logits_real == 0).float()).sum(),
        "d_correct_fake": ((logits_fake < 0).float() + 0.5 * (logits_fake == 0).float()).sum(),
        "d_num_real": logits_real.numel(),
        "d_num_fake": logits_fake.numel(),
    }


def _output_penalty(discriminator: nn.Module) -> Tensor:
    output = getattr(discriminator, "output", None)
    if output is None:
        raise ValueError(
            "--disc-l2 penalises the module `output` of the discriminator, which this discriminator does not have: "
            "name its last layer so, or leave --disc-l2 at 0."
        )
    return sum(p.float().square().sum() / 2 for p in output.parameters())
