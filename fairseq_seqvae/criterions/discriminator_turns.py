"""The discriminator's turn, and what a validation says of it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fairseq_seqvae.core.discriminators.losses import LOSSES, correct_judgements, discriminator_loss, output_penalty
from fairseq_seqvae.core.discriminators.pool import FakePool
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import Samples
from fairseq_seqvae.core.schedules.held_out_judgements import Judgement, JudgementPlan
from fairseq_seqvae.criterions import logged
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.seqvae_elbo import Model, Result, SeqVAEElboCriterion
from fairseq_seqvae.rewards.sources import DISCRIMINATOR

Batch = tuple[Tensor, Tensor]  # tokens (B, T), padding mask (B, T)
# What the run state holds: update and accuracy of the last judgement on held-out data.
JUDGEMENT = "judgement"
_ROWS_AT_A_TIME = 256


class Verdict(NamedTuple):
    """What a judgement on held-out data has led to.

    Attributes:
        of_real: share of the held-out sentences that the discriminator which goes on tells correctly
        of_fake: the same of as many fresh samples
        is_used: whether its reward is used
        was_used: whether it was before
        given_up: accuracy of the one that was given up for the one that was kept; or None
    """

    of_real: float
    of_fake: float
    is_used: bool
    was_used: bool
    given_up: float | None

    @property
    def accuracy(self) -> float:
        """Share of both together."""
        return (self.of_real + self.of_fake) / 2


class DiscriminatorTurns(SeqVAEElboCriterion):
    """A criterion that trains a discriminator, too."""

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task: Any):
        super().__init__(cfg, task)
        if cfg.disc_loss not in LOSSES:
            raise ValueError(f"unknown --disc-loss {cfg.disc_loss!r}: choose one of {', '.join(sorted(LOSSES))}.")
        self.pool = FakePool(cfg.fake_pool, cfg.fake_reuse) if cfg.fake_pool else None
        self.judgements = JudgementPlan(cfg.disc_gate_interval, cfg.disc_gate)

    def discriminator_turn(self, model: Model, sample: dict[str, Any], draws: Draws) -> Result:
        """Loss of the discriminator on the batch against as many samples with z from the prior."""
        model.keep_language_model(draws.update, self.task.plan.gen_pretrain_updates)
        cfg, ids = self.cfg, sample["id"]
        if cfg.disc_real:
            chances = draws.uniforms(Stream.FAKE_CHOICE, ids, 1, 1).squeeze(1)  # fakes are chosen by those of 0
            sample = self.task.drawn_sample(cfg.disc_real, chances, draws)
        target = sample["target"]
        fakes = self.fakes(model, ids, draws, self.task.max_sample_length(target))
        output = model(
            **sample["net_input"] | {"src_tokens": target},
            mode="discriminator",
            real_mask=target.eq(self.padding_idx),
            fake_tokens=fakes.tokens,
            fake_mask=fakes.mask,
            fake_labels=fakes.labels,
            shares=draws.uniforms(Stream.SLOPE, ids, 0, 1).squeeze(1) if cfg.gradient_penalty else None,
        )
        logits = output.logits_real, output.logits_fake
        loss_real, loss_fake = discriminator_loss(*logits, cfg.disc_label_smoothing, cfg.disc_loss)
        loss = (loss_real.sum() + loss_fake.sum()) / 2
        log = {"d_loss": loss.detach()} | logged.judgements(*logits, cfg.disc_loss)
        if output.penalty is not None:
            log["d_penalty"] = output.penalty.detach().sum()
            loss = loss + cfg.gradient_penalty * output.penalty.sum()
        if cfg.disc_l2:
            loss = loss + cfg.disc_l2 * sample["nsentences"] * output_penalty(model.discriminator)
        return loss, sample["nsentences"], log

    def fakes(self, model: Model, ids: Tensor, draws: Draws, max_len: int) -> Samples:
        """One sample of the decoder for each of *ids* (B,), fresh or from the pool."""

        def fresh(ids: Tensor, draws: Draws, max_len: int) -> Samples:
            return self.prior_samples(model, ids, draws, Stream.FAKE_LATENT, Stream.FAKE, max_len)

        if self.pool is None:
            return fresh(ids, draws, max_len)
        rests_since = self.task.plan.generator_rests_since(draws.update)
        return self.pool.fakes(fresh, ids, draws, rests_since, max_len)

    # -- judgements on held-out data --

    @property
    def last_judgement(self) -> Judgement | None:
        """The last judgement of this run on held-out data."""
        known = self.run_state.get(JUDGEMENT)
        return Judgement(*known) if known else None

    @property
    def reward_is_used(self) -> bool:
        """Whether the last judgement lets the discriminator's reward count."""
        return self.judgements.is_open(self.last_judgement)

    @property
    def keeps_best(self) -> bool:
        """Whether the model has to keep a copy of the discriminator."""
        return self.cfg.disc_keep_best

    @property
    def has_no_reward(self) -> bool:
        """Whether the discriminator's reward would be the only one, and is not used."""
        alone = self.cfg.reward_sources == DISCRIMINATOR
        return alone and self.judgements.threshold > 0 and not self.reward_is_used

    def turn_without_reward(self, model: Model, sample: dict[str, Any], draws: Draws) -> Result:
        """The generator's turn while the discriminator's reward is not used: its ELBO, weighted as in that turn."""
        loss, count, log = self.generator_pretrain(model, sample, draws)
        return self.cfg.elbo_weight * loss, count, log

    def log_judgement(self, count: int) -> dict[str, Any]:
        """What the log of each update says of the last judgement, for a batch of *count* sentences."""
        last = self.last_judgement
        if last is None:
            return {}
        return {"d_acc_held_out": last.accuracy * count, "d_gate": float(self.reward_is_used) * count}

    def judge_held_out(self, model: Model, sample: dict[str, Any], update_num: int) -> Verdict:
        """Judge the discriminator before update *update_num*, and keep or restore it if `--disc-keep-best` says so.

        All processes judge the same sentences; the first one's accuracies count.

        Args:
            sample: held-out sentences
        """
        target, was_used = sample["target"], self.reward_is_used
        # Those of validations, which belong to no update.
        streams = Stream.VALIDATION_LATENT, Stream.VALIDATION_SAMPLE
        samples = self.prior_samples(
            model, sample["id"], Draws(self.cfg.seed, update_num), *streams, self.task.max_sample_length(target)
        )
        judges = [part for part in (model.discriminator, model.kept_discriminator) if part is not None]
        found = torch.stack([self._held_out_accuracies(judge, *seen(model, sample, samples)) for judge in judges])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(found, 0)
        (present, *kept), given_up = found.tolist(), None
        if kept and sum(kept[0]) > sum(present):
            given_up, present = sum(present) / 2, kept[0]
            model.restore_discriminator()
        elif kept:
            model.keep_discriminator()
        self.run_state.set(JUDGEMENT, (update_num, sum(present) / 2))
        of_real, of_fake = present
        return Verdict(of_real, of_fake, self.reward_is_used, was_used, given_up)

    @torch.no_grad()
    def _held_out_accuracies(self, discriminator: nn.Module, real: Batch, fake: Batch) -> Tensor:
        """Shares of real sequences and of samples that are told correctly, (2,) float64."""
        training = discriminator.training
        discriminator.eval()
        logits_real, logits_fake = _logits(discriminator, *real), _logits(discriminator, *fake)
        discriminator.train(training)
        correct = correct_judgements(logits_real, logits_fake, self.cfg.disc_loss)
        return torch.stack(correct).double() / len(logits_real)  # as many samples as sentences

    # -- fairseq's validations --

    def validate_discriminator(self, model: Model, sample: dict[str, Any], samples: Samples) -> dict[str, Any]:
        """Accuracy on held-out data and fresh samples: training data can be memorised."""
        if model.discriminator is None or not self.task.judges_discriminator:
            return {}
        logits_real, logits_fake = (model.discriminator(*batch) for batch in seen(model, sample, samples))
        return logged.judgements(logits_real, logits_fake, self.cfg.disc_loss)


def seen(model: Model, sample: dict[str, Any], samples: Samples) -> tuple[Batch, Batch]:
    """Tokens and padding mask of the data and of samples, as the discriminator sees them."""
    target, pad = sample["target"], model.decoder.pad
    real, fake = (target, target.eq(pad)), (samples.tokens, samples.mask)
    if model.conditions is None:
        return real, fake
    return model.conditions.seen(*real, sample["net_input"]["labels"]), model.conditions.seen(*fake, samples.labels)


def _logits(discriminator: nn.Module, tokens: Tensor, mask: Tensor) -> Tensor:
    rows = zip(tokens.split(_ROWS_AT_A_TIME), mask.split(_ROWS_AT_A_TIME), strict=True)
    return torch.cat([discriminator(*some) for some in rows])
