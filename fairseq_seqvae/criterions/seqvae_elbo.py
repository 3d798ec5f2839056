"""Criterion ``seqvae_elbo``: reconstruction and weighted divergence from the prior."""

import math
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics
from fairseq.logging.meters import safe_round
from torch import Tensor

from fairseq_seqvae import options
from fairseq_seqvae.core import noise, rollouts, sequences
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.core.latents.penalties import free_bits
from fairseq_seqvae.core.noise import Stream
from fairseq_seqvae.core.schedules.annealing import kl_weight
from fairseq_seqvae.core.schedules.turns import Turn
from fairseq_seqvae.criterions.config import SeqVAEElboConfig
from fairseq_seqvae.metrics.bigrams import bigram_counts, jensen_shannon
from fairseq_seqvae.metrics.variety import count_distinct


@register_criterion("seqvae_elbo", dataclass=SeqVAEElboConfig)
class SeqVAEElboCriterion(FairseqCriterion):
    """Negative ELBO, nats, summed over the sequences of a batch; ``sample_size`` is the number of sequences."""

    is_adversarial = False
    # What a validation logs, each of them a possible --best-checkpoint-metric.
    VALIDATION_METRICS = ("loss", "rec", "kl", "nats_per_token", "ppl", "distinct", "bigram_jsd")

    def __init__(self, cfg: SeqVAEElboConfig, task):
        super().__init__(task)
        self.cfg = cfg
        options.check(cfg, SeqVAEElboConfig)

    @classmethod
    def build_criterion(cls, cfg, task) -> "SeqVAEElboCriterion":
        """Build from the options."""
        return cls(cfg, task)

    def forward(
        self, model, sample, reduce: bool = True, turn: Turn = Turn.GENERATOR_PRETRAIN, update_num: int = 0
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Loss of a batch, the number of sequences, and what is logged.

        Args:
            turn: whose turn it is, in training
            update_num: number of the update, counted from 0
        """
        if not model.training:
            return self.validation(model, sample)
        return self.generator_pretrain(model, sample, update_num)

    def generator_pretrain(self, model, sample, update_num: int) -> tuple[Tensor, int, dict[str, Any]]:
        """The generator moves by the ELBO alone."""
        output = model(**sample["net_input"], **self.generator_inputs(model, sample, update_num))
        loss, log = self.elbo(output.logits, output.posterior, sample["target"], update_num)
        return loss, sample["nsentences"], self.counts(sample) | log

    def validation(self, model, sample) -> tuple[Tensor, int, dict[str, Any]]:
        """The ELBO of one draw of z a sequence (weight 1, no free bits), the same draw at every validation."""
        target, ids = sample["target"], sample["id"]
        keys = noise.row_keys(self.cfg.seed, 0, Stream.VALIDATION_POSTERIOR, ids)
        inputs = {"mode": "generator", "noise": noise.normal(keys, model.encoder.latent_dim)}
        output = model(**sample["net_input"], **inputs)
        mask = target.eq(self.padding_idx)
        rec = -sequences.token_log_probs(output.logits, target, mask).sum()
        kl = output.posterior.kl().sum()
        log = {"loss": rec + kl, "rec": rec, "kl": kl, "weight": sample["nsentences"]}
        if not self.cfg.no_valid_samples:
            samples = self.prior_samples(
                model, ids, 0, Stream.VALIDATION_LATENT, Stream.VALIDATION_SAMPLE, self.task.max_sample_length(target)
            )
            sample_mask = sequences.padding_mask(samples.lengths, samples.tokens.size(1))
            log["bigrams_data"] = bigram_counts(target, mask)
            log["bigrams_samples"] = bigram_counts(samples.tokens, sample_mask)
            log |= self.variety(target, mask, samples.tokens, sample_mask)
            log |= self.validate_discriminator(model, target, mask, samples.tokens, sample_mask)
        return rec + kl, sample["nsentences"], self.counts(sample) | log

    def validate_discriminator(self, model, target, mask, fake_tokens, fake_mask) -> dict[str, Any]:
        """What the adversarial criterion logs about the discriminator on held-out data."""
        return {}

    # -- parts that the adversarial criterion uses too --

    def generator_inputs(self, model, sample, update_num: int) -> dict[str, Any]:
        """Random numbers of a generator's forward pass."""
        ids = sample["id"]
        keys = noise.row_keys(self.cfg.seed, update_num, Stream.POSTERIOR, ids)
        return {
            "mode": "generator",
            "noise": noise.normal(keys, model.encoder.latent_dim),
            "word_dropout_keys": noise.row_keys(self.cfg.seed, update_num, Stream.WORD_DROPOUT, ids),
        }

    def elbo(
        self, logits: Tensor, posterior: DiagonalGaussian, target: Tensor, update_num: int
    ) -> tuple[Tensor, dict[str, Any]]:
        """Weighted negative ELBO, nats, summed over the batch, and what is logged."""
        mask = target.eq(self.padding_idx)
        rec = -sequences.token_log_probs(logits, target, mask).sum()
        kl = posterior.kl()
        weight = kl_weight(
            update_num,
            self.cfg.kl_weight,
            self.cfg.kl_anneal,
            self.cfg.kl_anneal_updates,
            self.cfg.kl_cycles,
            self.cfg.kl_ramp,
        )
        loss = rec + weight * free_bits(kl, self.cfg.free_bits, self.cfg.free_bits_mode).sum()
        nsentences = target.size(0)
        log = {
            "loss": loss.detach(),
            "rec": rec.detach(),
            "kl": kl.detach().sum(),
            "kl_weight": weight * nsentences,
            "weight": nsentences,
        }
        return loss, log

    def prior_samples(
        self, model, ids: Tensor, update_num: int, latent_stream: Stream, stream: Stream, max_len: int
    ) -> rollouts.Samples:
        """One sequence for each of *ids* (B,), with z from the prior."""
        latent_keys = noise.row_keys(self.cfg.seed, update_num, latent_stream, ids)
        return rollouts.sample(
            model.decoder,
            noise.normal(latent_keys, model.encoder.latent_dim),
            noise.row_keys(self.cfg.seed, update_num, stream, ids),
            max_len,
            model.decoder.eos,
            self.padding_idx,
        )

    @staticmethod
    def variety(target: Tensor, mask: Tensor, sampled_tokens: Tensor, sampled_mask: Tensor) -> dict[str, Tensor]:
        """How many sequences of the data and of as many samples are different."""
        return {
            "distinct_data": count_distinct(target, mask),
            "distinct": count_distinct(sampled_tokens, sampled_mask),
        }

    @staticmethod
    def counts(sample) -> dict[str, Any]:
        """What fairseq needs of every batch."""
        return {"ntokens": sample["ntokens"], "nsentences": sample["nsentences"], "sample_size": sample["nsentences"]}

    # -- logging --

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log sums over batches and processes as means: losses in nats a sequence, perplexity a token."""

        def total(key: str):
            return sum(log.get(key, 0) for log in logging_outputs)

        weight = float(total("weight"))
        # The trainer asks for a loss in every update; one in which the generator rests has none.
        metrics.log_scalar("loss", float(total("loss")) / weight if weight else None, weight, round=3)
        if weight:
            metrics.log_scalar("rec", float(total("rec")) / weight, weight, round=3)
            metrics.log_scalar("kl", float(total("kl")) / weight, weight, round=3)
            # total("ntokens") counts the tokens of the same batches
            bound = float(total("rec") + total("kl")) / float(total("ntokens"))
            metrics.log_scalar("nats_per_token", bound, total("ntokens"), round=4, priority=60)
            metrics.log_derived("ppl", _perplexity, priority=61)
        if any("kl_weight" in log for log in logging_outputs):
            metrics.log_scalar("kl_weight", total("kl_weight") / weight, weight, round=4)
        if any("distinct" in log for log in logging_outputs):
            # Shares within batches; those of the data, which alarms compare with, are not shown.
            metrics.log_scalar("distinct", float(total("distinct")) / weight, weight, round=3, priority=63)
            metrics.log_scalar("_distinct_data", float(total("distinct_data")) / weight, weight)
        if any("bigrams_data" in log for log in logging_outputs):
            # Counts are added up over batches; names that begin with an underscore are not shown.
            metrics.log_scalar_sum("_bigrams_data", total("bigrams_data").double().cpu())
            metrics.log_scalar_sum("_bigrams_samples", total("bigrams_samples").double().cpu())
            metrics.log_derived("bigram_jsd", _bigram_divergence, priority=62)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Everything logged is a sum, with the same keys in all processes."""
        return True


def _bigram_divergence(meters) -> float:
    """Jensen-Shannon divergence between the bigrams of the data and of the samples of all batches so far, nats."""
    counts = meters["_bigrams_data"].sum, meters["_bigrams_samples"].sum
    return safe_round(jensen_shannon(*counts).item(), 4) if torch.is_tensor(counts[0]) else None


def _perplexity(meters) -> float | None:
    average = meters["nats_per_token"].avg
    return safe_round(math.exp(min(float(average), 50.0)), 2) if average is not None else None
