"""The discriminator's turn, and what a validation says of it."""

from typing import Any

from torch import Tensor

from fairseq_seqvae.core.discriminators.losses import LOSSES, discriminator_loss, output_penalty
from fairseq_seqvae.core.discriminators.pool import FakePool
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import Samples
from fairseq_seqvae.criterions import logged
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.seqvae_elbo import Model, Result, SeqVAEElboCriterion


class DiscriminatorTurns(SeqVAEElboCriterion):
    """A criterion that trains a discriminator, too."""

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task: Any):
        super().__init__(cfg, task)
        if cfg.disc_loss not in LOSSES:
            raise ValueError(f"unknown --disc-loss {cfg.disc_loss!r}: choose one of {', '.join(sorted(LOSSES))}.")
        self.pool = FakePool(cfg.fake_pool, cfg.fake_reuse) if cfg.fake_pool else None

    def discriminator_turn(self, model: Model, sample: dict[str, Any], draws: Draws) -> Result:
        """Loss of the discriminator on the batch against as many samples with z from the prior."""
        target = sample["target"]
        fakes = self.fakes(model, sample["id"], draws, self.task.max_sample_length(target))
        cfg = self.cfg
        output = model(
            **sample["net_input"] | {"src_tokens": target},
            mode="discriminator",
            real_mask=target.eq(self.padding_idx),
            fake_tokens=fakes.tokens,
            fake_mask=fakes.mask,
            shares=draws.uniforms(Stream.SLOPE, sample["id"], 0, 1).squeeze(1) if cfg.gradient_penalty else None,
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

    def validate_discriminator(self, model: Model, target: Tensor, samples: Samples) -> dict[str, Any]:
        """Accuracy on held-out data and fresh samples: training data can be memorised."""
        if model.discriminator is None or not self.task.judges_discriminator:
            return {}
        logits_real = model.discriminator(target, target.eq(self.padding_idx))
        logits_fake = model.discriminator(samples.tokens, samples.mask)
        return logged.judgements(logits_real, logits_fake, self.cfg.disc_loss)
