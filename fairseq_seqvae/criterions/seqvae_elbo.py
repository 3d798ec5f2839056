"""Criterion ``seqvae_elbo``: reconstruction and weighted divergence from the prior."""

from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from torch import Tensor

from fairseq_seqvae import options
from fairseq_seqvae.core import sequences
from fairseq_seqvae.core.conditions import joined
from fairseq_seqvae.core.elbo import negative_elbo, training_loss
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts import rollout
from fairseq_seqvae.core.rollouts.policy import Samples
from fairseq_seqvae.core.rollouts.scheduled_sampling import InputMix
from fairseq_seqvae.core.schedules.annealing import kl_weight
from fairseq_seqvae.core.schedules.kl_control import KLControl, KLController
from fairseq_seqvae.core.schedules.run_state import RunState
from fairseq_seqvae.core.schedules.scheduled_sampling import sampling_share
from fairseq_seqvae.core.schedules.turns import GENERATOR_PRETRAIN, Turn
from fairseq_seqvae.criterions import logged
from fairseq_seqvae.criterions.elbo_config import SeqVAEElboConfig
from fairseq_seqvae.metrics import reconstruction
from fairseq_seqvae.metrics.bigrams import bigram_counts
from fairseq_seqvae.metrics.latent_use import mutual_information
from fairseq_seqvae.metrics.notes import note_tokens
from fairseq_seqvae.metrics.variety import count_distinct

# A SeqVAEModel, or fairseq's wrapper of one, which hands its attributes on.
Model = Any
# What a criterion returns: the loss, the number of sequences, what is logged.
Result = tuple[Tensor, int, dict[str, Any]]


@register_criterion("seqvae_elbo", dataclass=SeqVAEElboConfig)
class SeqVAEElboCriterion(FairseqCriterion):
    """Negative ELBO, nats, summed over the sequences of a batch; ``sample_size`` is the number of sequences."""

    is_adversarial = False
    # What a validation logs, each of them a possible --best-checkpoint-metric.
    VALIDATION_METRICS: tuple[str, ...] = (
        *("loss", "rec", "kl", "nats_per_token", "ppl", "distinct", "bigram_jsd"),
        *("rec_acc", "rec_acc_notes", "rec_acc_other"),
    )

    def __init__(self, cfg: SeqVAEElboConfig, task: Any):
        super().__init__(task)
        self.cfg = cfg
        options.check(cfg, SeqVAEElboConfig)
        # The task puts that of the model here, which is part of checkpoints.
        self.run_state = RunState()
        self.kl_controller: KLController | None = None
        if cfg.kl_target:
            self.kl_controller = KLController(cfg.kl_target, cfg.kl_weight, cfg.kl_target_horizon)
        self.notes = note_tokens(task.target_dictionary)

    @classmethod
    def build_criterion(cls, cfg: SeqVAEElboConfig, task: Any) -> "SeqVAEElboCriterion":
        """Build from the options."""
        return cls(cfg, task)

    def forward(
        self,
        model: Model,
        sample: dict[str, Any],
        reduce: bool = True,
        turn: Turn = GENERATOR_PRETRAIN,
        update_num: int = 0,
    ) -> Result:
        """Loss of a batch, the number of sequences, and what is logged.

        Args:
            turn: which parts move, in training
            update_num: number of the update, counted from 0
        """
        if model.training:
            loss, count, log = self.generator_pretrain(model, sample, Draws(self.cfg.seed, update_num))
        else:
            loss, count, log = self.validation(model, sample)
        return loss, count, log | {"ntokens": sample["ntokens"], "nsentences": count, "sample_size": count}

    def generator_pretrain(self, model: Model, sample: dict[str, Any], draws: Draws) -> Result:
        """The generator moves by the ELBO alone."""
        streams = Stream.POSTERIOR, Stream.WORD_DROPOUT
        noise, keys = draws.noise_and_keys(*streams, sample["id"], model.encoder.noise_dim)
        mix = self.input_mix(sample["id"], draws) if self.cfg.scheduled_sampling else None
        output = model(**sample["net_input"], mode="generator", noise=noise, word_dropout_keys=keys, mix=mix)
        target = sample["target"]
        log_likelihood = sequences.token_log_probs(output.logits, target, target.eq(self.padding_idx)).sum()
        loss, log = self.elbo(log_likelihood, output, target, draws.update)
        return loss, sample["nsentences"], log

    def validation(self, model: Model, sample: dict[str, Any]) -> Result:
        """The ELBO of one draw of z per sequence (weight 1, no free bits), the same draw at every validation."""
        target, ids, draws = sample["target"], sample["id"], Draws(self.cfg.seed)
        noise = draws.normal(Stream.VALIDATION_POSTERIOR, ids, model.encoder.noise_dim)
        output = model(**sample["net_input"], mode="generator", noise=noise)
        mask = target.eq(self.padding_idx)
        log_likelihood = sequences.token_log_probs(output.logits, target, mask).sum()
        kl = output.kl.sum()
        loss = negative_elbo(log_likelihood, kl)
        log = {"loss": loss, "rec": -log_likelihood, "kl": kl, "weight": sample["nsentences"]}
        if getattr(self.task, "measures_mutual_information", False):
            known = mutual_information(output.posterior, ids=ids, seed=self.cfg.seed, num_samples=1)
            log["mutual_information"] = known * sample["nsentences"]
        if not self.cfg.no_valid_samples:
            max_len = self.task.max_sample_length(target)
            samples = self.prior_samples(model, ids, draws, Stream.VALIDATION_LATENT, Stream.VALIDATION_SAMPLE, max_len)
            log["bigrams_data"] = bigram_counts(target, mask)
            log["bigrams_samples"] = bigram_counts(samples.tokens, samples.mask)
            log |= {"distinct_data": count_distinct(target, mask)}
            log |= {"distinct": count_distinct(samples.tokens, samples.mask)}
            log |= self.validate_discriminator(model, sample, samples)
        if model.prior.dim and not self.cfg.no_valid_reconstruction:
            z, labels = output.posterior.mean, sample["net_input"].get("labels")
            decoded = reconstruction.greedy(model.decoder, z if labels is None else joined(z, labels), target.size(1))
            log |= logged.reconstructions(decoded, target, mask, self.notes)
        return loss, sample["nsentences"], log

    def validate_discriminator(self, model: Model, sample: dict[str, Any], samples: Samples) -> dict[str, Any]:
        """What the adversarial criterion logs about the discriminator on held-out data."""
        return {}

    def validation_metrics(self, has_latent: bool) -> list[str]:
        """Those of `VALIDATION_METRICS` that validations log with these options, this dictionary and such a model."""
        omitted: set[str] = set()
        if self.cfg.no_valid_samples:
            omitted |= {"bigram_jsd", "distinct", "d_acc_real", "d_acc_fake"}
        if self.cfg.no_valid_reconstruction or not has_latent:
            omitted |= {"rec_acc", "rec_acc_notes", "rec_acc_other"}
        if self.notes is None:
            omitted |= {"rec_acc_notes"}
        return [name for name in self.VALIDATION_METRICS if name not in omitted]

    # -- parts that the adversarial criterion uses too --

    def elbo(
        self, log_likelihood: Tensor, output: Any, target: Tensor, update_num: int
    ) -> tuple[Tensor, dict[str, Any]]:
        """Weighted negative ELBO and auxiliary loss, nats, summed over the batch, and what is logged.

        Args:
            log_likelihood: log p(x|z), a sum over the batch
            output: a :class:`fairseq_seqvae.models.outputs.GeneratorOutput`
            target: (B, T), the data
            update_num: number of the update, for the weight of the KL term
        """
        cfg = self.cfg
        kl = output.kl
        weight = self.kl_weight(update_num)
        loss = training_loss(log_likelihood, kl, weight, cfg.free_bits, cfg.free_bits_mode)
        log = {
            "loss": loss.detach(),
            "rec": -log_likelihood.detach(),
            "kl": kl.detach().sum(),
            "kl_weight": weight * len(kl),
            "weight": len(kl),
        }
        if cfg.scheduled_sampling:
            log["scheduled_sampling"] = self.sampling_share(update_num) * len(kl)
        if output.auxiliary_logits is not None:
            mask = target.eq(self.padding_idx)
            auxiliary = -sequences.token_log_probs(output.auxiliary_logits, target, mask).sum()
            log["auxiliary"] = auxiliary.detach()
            loss = loss + cfg.auxiliary_weight * auxiliary
        return loss, log

    def sampling_share(self, update_num: int) -> float:
        """Share of the decoder's inputs that are samples in update number *update_num*."""
        cfg = self.cfg
        schedule, updates = str(cfg.scheduled_sampling_schedule), cfg.scheduled_sampling_updates
        return sampling_share(update_num, cfg.scheduled_sampling, schedule, updates)

    def input_mix(self, ids: Tensor, draws: Draws) -> InputMix | None:
        """How the decoder's inputs of the sentences *ids* (B,) are mixed with samples in an update, if at all."""
        share, stream = self.sampling_share(draws.update), Stream.SCHEDULED_SAMPLING
        return InputMix(share, draws.keys(stream, ids, 0), draws.keys(stream, ids, 1)) if share else None

    def kl_weight(self, update_num: int) -> float:
        """Weight of the KL term in update number *update_num*."""
        cfg = self.cfg
        if self.kl_controller is not None:
            return self._kl_control(self.kl_controller).weight
        return kl_weight(update_num, cfg.kl_weight, cfg.kl_anneal, cfg.kl_anneal_updates, cfg.kl_cycles, cfg.kl_ramp)

    def _kl_control(self, controller: KLController) -> KLControl:
        known = self.run_state.get("kl_control")
        return KLControl(*known) if known else controller.start()

    def after_update(self, logs: logged.Logs) -> None:
        """Learn from what all processes have logged of one update."""
        total = logged.totals(logs)
        if self.kl_controller is not None and (sentences := float(total("weight"))):
            kl = sum(float(log["kl"]) for log in logs) / sentences
            self.run_state.set("kl_control", self.kl_controller.step(self._kl_control(self.kl_controller), kl))

    @torch.no_grad()
    def prior_samples(
        self, model: Model, ids: Tensor, draws: Draws, latent_stream: Stream, stream: Stream, max_len: int
    ) -> Samples:
        """One sequence for each of *ids* (B,), with z from the prior and, where such are known, a label of the data."""
        noise, keys = draws.noise_and_keys(latent_stream, stream, ids, model.prior.noise_dim)
        z = model.prior.sample(noise)
        if model.conditions is None:
            return rollout.sample(model.decoder, z, keys, max_len)
        labels = model.conditions.draw(draws, ids)
        return rollout.sample(model.decoder, joined(z, labels), keys, max_len)._replace(labels=labels)

    # -- logging --

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log sums over batches and processes as means, see :mod:`fairseq_seqvae.criterions.logged`."""
        logged.log_elbo(logging_outputs)
        logged.log_reconstruction(logging_outputs)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Everything logged is a sum, with the same keys in all processes."""
        return True
