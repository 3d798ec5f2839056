"""The model: encoder, decoder, and the discriminator and the rollout policy that train the decoder."""

import functools
import os
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.models import FairseqEncoderDecoderModel, register_model
from torch import Tensor, nn

from fairseq_seqvae import options
from fairseq_seqvae.core.discriminators.gradient_penalty import gradient_penalty
from fairseq_seqvae.core.latents.base import Prior
from fairseq_seqvae.core.latents.mixture import GaussianMixturePrior
from fairseq_seqvae.core.networks.batch_moments import BatchMoments
from fairseq_seqvae.core.networks.spectral import SpectralNorm
from fairseq_seqvae.core.rollouts.policy import Trajectory
from fairseq_seqvae.core.rollouts.scheduled_sampling import InputMix, mixed_inputs
from fairseq_seqvae.core.schedules.run_state import RunState
from fairseq_seqvae.core.schedules.turns import (
    CRITIC,
    DECODER,
    DISCRIMINATOR,
    DISCRIMINATOR_PARTS,
    ENCODER,
    GENERATOR_PARTS,
)
from fairseq_seqvae.models.companions import GENERATOR, Companions, tag
from fairseq_seqvae.models.conditions import Conditions
from fairseq_seqvae.models.config import SeqVAEConfig, SeqVAEMelodyConfig, SeqVAEOracleConfig, SeqVAETextConfig
from fairseq_seqvae.models.decoders import hierarchical, hybrid, stepwise  # noqa: F401
from fairseq_seqvae.models.decoders.recurrent import SeqVAEDecoder
from fairseq_seqvae.models.dictionaries import dictionary_digest
from fairseq_seqvae.models.disc_inputs import informed
from fairseq_seqvae.models.discriminators import chosen_discriminator
from fairseq_seqvae.models.encoders import convolutional, recurrent  # noqa: F401
from fairseq_seqvae.models.encoders.encoder import SeqVAEEncoder
from fairseq_seqvae.models.lagging import LaggingCopy
from fairseq_seqvae.models.outputs import DiscriminatorOutput, GeneratorOutput
from fairseq_seqvae.models.registry import DECODERS, chosen
from fairseq_seqvae.models.saved import check_saved
from fairseq_seqvae.models.state_dict import StateDict
from fairseq_seqvae.models.warm_start import warm_start
from fairseq_seqvae.support.extensions import import_module_files

PRESETS = (SeqVAEConfig, SeqVAEMelodyConfig, SeqVAEOracleConfig, SeqVAETextConfig)


def shift_right(tokens: Tensor, mask: Tensor, first: int, pad: int) -> Tensor:
    """Inputs of a decoder that is to produce *tokens*: *first*, then all tokens but the last, (B, T).

    Args:
        tokens: (B, T)
        mask: (B, T), True = padding
        first: first input
        pad: what stands at padding
    """
    shifted = torch.cat([tokens.new_full((tokens.size(0), 1), first), tokens[:, :-1]], dim=1)
    return shifted.masked_fill(mask, pad)


@register_model("seqvae", dataclass=SeqVAEConfig)
class SeqVAEModel(Companions, StateDict, FairseqEncoderDecoderModel):
    """Sequence variational autoencoder with policy gradient (Gao, Cui, Ding 2021).

    Besides encoder and decoder it holds what is needed to train them against each other: the ``discriminator`` and
    ``rollout_decoder``, a lagging copy of the decoder that completes prefixes. They are part of the model so that
    fairseq trains, reduces over processes, saves and restores them; for inference they are left out.

    Each parameter is tagged with the ``part`` of the model that it belongs to, which turns move or leave at rest, and
    with the player (``param_group``), for fairseq's optimizer ``composite``.
    """

    def __init__(
        self,
        encoder: SeqVAEEncoder,
        decoder: SeqVAEDecoder,
        discriminator: nn.Module | None = None,
        completes: bool = False,
    ):
        super().__init__(encoder, decoder)
        self.discriminator: Any = discriminator
        self.prior: Prior = encoder.prior  # p(z)
        self.fitted_prior: GaussianMixturePrior | None = None  # of checkpoints that `fit-prior` wrote
        self.keeps_fitted_prior = True
        self.lagging = LaggingCopy(decoder) if completes else None
        self.rollout_decoder = self.lagging.module if self.lagging else None
        self.reference_decoder: Any = None  # see `add_reference`
        self.critic: Any = None  # see `add_critic`
        self.conditions: Conditions | None = None  # of sequences with labels
        self.kept_discriminator: Any = None  # see `add_kept_discriminator`
        self.run_state = RunState()
        # Called once the run's state has been read from a checkpoint; may refuse it with a ValueError.
        self.after_restoring: Callable[[RunState], None] | None = None
        # What the task ends updates of; the rollout policy never sees a batch of data.
        self.moments = [
            part
            for player in (encoder, decoder, discriminator)
            for part in (player.modules() if player is not None else ())
            if isinstance(part, (BatchMoments, SpectralNorm))
        ]
        # "version" in its name keeps fairseq's moving average of parameters away from this integer.
        self.register_buffer("dictionary_version", torch.tensor(dictionary_digest(decoder.dictionary)))
        # Embeddings that encoder and decoder share belong to the decoder, which comes later here.
        parts = (encoder, ENCODER), (decoder, DECODER), (self.rollout_decoder, DECODER), (discriminator, DISCRIMINATOR)
        for module, part in parts:
            tag(module, part)

    @classmethod
    def build_model(cls, cfg: Any, task: Any) -> "SeqVAEModel":
        """Build from the options; *task* gives the dictionary and says whether a discriminator is of use."""
        dictionary = task.source_dictionary
        options.check(cfg, SeqVAEConfig)
        needs_discriminator = getattr(task, "needs_discriminator", True)
        in_training = getattr(task, "in_training", needs_discriminator)
        if in_training:  # a checkpoint that is only used could name any file
            import_module_files(cfg.module, "--module")
            import_module_files(cfg.disc_module, "--disc-module")

        embedding = _embedding(cfg, dictionary)
        encoder = SeqVAEEncoder(dictionary, embedding, cfg)
        decoder_embedding = _embedding(cfg, dictionary) if cfg.no_share_embeddings else embedding
        decoder = chosen(DECODERS, cfg.decoder, "--decoder").from_options(cfg, dictionary, decoder_embedding)
        conditions = task.conditions() if getattr(task, "labels", None) is not None else None
        if conditions is not None:
            conditions.embed(encoder, decoder)
        discriminator = None
        if needs_discriminator:
            num_labels = len(conditions.names) if conditions else 0
            reader = functools.partial(chosen_discriminator, cfg, dictionary, num_labels)
            discriminator = informed(reader, cfg, task, decoder, encoder.prior)
        if in_training:
            warm_start(cfg, encoder, decoder, getattr(task, "restored_checkpoint", None))
        completes = in_training and getattr(task, "needs_rollout_policy", True)
        model = cls(encoder, decoder, discriminator, completes)
        model.keeps_fitted_prior = not in_training
        model.conditions = conditions
        for part in model.moments:
            if isinstance(part, BatchMoments):
                part.frozen = cfg.freeze_batch_norm
        return model

    @classmethod
    def from_pretrained(
        cls,
        model_name_or_path: str | os.PathLike,
        checkpoint_file: str = "checkpoint_best.pt",
        data_name_or_path: str | os.PathLike = ".",
        **kwargs: Any,
    ) -> Any:
        """Load a checkpoint to sample, encode, reconstruct, interpolate and continue text from Python.

        Args:
            model_name_or_path: folder of the checkpoint
            checkpoint_file: its name
            data_name_or_path: folder that fairseq-preprocess wrote, with the dictionary

        Returns:
            a :class:`fairseq_seqvae.hub.SeqVAEHubInterface`
        """
        from fairseq_seqvae.inference.hub import load_hub_interface

        return load_hub_interface(model_name_or_path, checkpoint_file, data_name_or_path, **kwargs)

    @classmethod
    def check_saved(cls, path: str, state: dict[str, Any]) -> None:
        """Refuse the content of a checkpoint that no model can be built of; `compat` asks before it builds one."""
        check_saved(path, state, SeqVAEConfig, PRESETS)

    # -- everything that carries gradient --

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        mode: str | None = None,
        **inputs: Any,
    ) -> Any:
        """One entry for all that carries gradient, so that a distributed wrapper sees one forward an update.

        Args:
            src_tokens: (B, T), padded on the right
            src_lengths: (B,)
            prev_output_tokens: (B, T)
            mode: None: fairseq's meaning, returns (logits (B, T, V), {}) with z = mean of the posterior;
                ``generator``: a :class:`GeneratorOutput`, see :meth:`generator_turn`;
                ``discriminator``: a :class:`DiscriminatorOutput`, see :meth:`discriminator_turn`
        """
        if mode is None:
            given = {name: inputs.get(name) for name in ("z", "labels", "condition")}
            encoder_out = self.encoder(src_tokens, src_lengths, **given)
            return self.decoder(prev_output_tokens, encoder_out)
        if mode == GENERATOR:
            return self.generator_turn(src_tokens, src_lengths, prev_output_tokens, **inputs)
        if mode == DISCRIMINATOR:
            return self.discriminator_turn(src_tokens, **inputs)
        raise ValueError(f"`mode` must be None, '{GENERATOR}' or '{DISCRIMINATOR}' but is {mode!r}.")

    def generator_turn(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        prev_output_tokens: Tensor,
        noise: Tensor,
        word_dropout_keys: Tensor | None = None,
        trajectory: Trajectory | None = None,
        mix: InputMix | None = None,
        labels: Tensor | None = None,
    ) -> GeneratorOutput:
        """Reconstruct the data and score trajectories.

        Args:
            noise: (B, encoder.noise_dim), standard normal, that draws z from the posterior
            word_dropout_keys: (B,), see :meth:`SeqVAEDecoder.reconstruct`
            trajectory: sequences to score given the z that they were drawn with
            mix: of *prev_output_tokens* with samples; None: the data alone
            labels: (B,), of the data, where sequences have labels
        """
        drawn = self.encoder.draw(src_tokens, src_lengths, noise, labels)
        if mix is not None:
            with torch.no_grad():
                features, _ = self.decoder.read(prev_output_tokens, drawn.z, regularize=False)
            logits_of, pad = self.decoder.logits, self.decoder.pad
            prev_output_tokens = mixed_inputs(prev_output_tokens, features, logits_of, mix, pad)
        said = self.decoder.reconstruct(prev_output_tokens, drawn.z, regularize=True, keys=word_dropout_keys)
        policy_logits, predicted, rests = None, None, DISCRIMINATOR_PARTS
        if trajectory is None:
            rests = rests | {CRITIC}
        else:
            previous = shift_right(trajectory.tokens, trajectory.mask, self.decoder.eos, self.decoder.pad)
            if self.critic is None:
                policy_logits = self.decoder.teacher_forced(previous, trajectory.z, regularize=False)
            else:
                features, _ = self.decoder.read(previous, trajectory.z, regularize=False)
                # It learns from what the decoder knows, and does not change it.
                policy_logits, predicted = self.decoder.logits(features), self.critic(features.detach()).squeeze(2)
        logits = said.logits + self._untouched(rests)
        return GeneratorOutput(logits, drawn.kl, drawn.posterior, policy_logits, said.auxiliary_logits, predicted)

    def discriminator_turn(
        self,
        real_tokens: Tensor,
        real_mask: Tensor,
        fake_tokens: Tensor,
        fake_mask: Tensor,
        shares: Tensor | None = None,
        labels: Tensor | None = None,
        fake_labels: Tensor | None = None,
    ) -> DiscriminatorOutput:
        """Logits of real and of fake sequences, seen as one batch; masks (B, T), True = padding.

        Args:
            shares: (B,), of the real sequences in the points where the slope is penalised; None: no penalty
            labels: (B,), of the real sequences, where sequences have labels
            fake_labels: (B',), of the fake ones
        """
        if labels is not None and fake_labels is not None and self.conditions is not None:
            real_tokens, real_mask = self.conditions.seen(real_tokens, real_mask, labels)
            fake_tokens, fake_mask = self.conditions.seen(fake_tokens, fake_mask, fake_labels)
        width = max(real_tokens.size(1), fake_tokens.size(1))
        batches = ((real_tokens, real_mask), (fake_tokens, fake_mask))
        tokens = torch.cat([F.pad(t, (0, width - t.size(1)), value=self.decoder.pad) for t, _ in batches])
        mask = torch.cat([F.pad(m, (0, width - m.size(1)), value=True) for _, m in batches])
        logits = self.discriminator(tokens, mask)
        logits_real, logits_fake = logits.split([real_tokens.size(0), fake_tokens.size(0)])
        penalty = None
        if shares is not None:
            penalty = gradient_penalty(self.discriminator, *batches, shares)
        return DiscriminatorOutput(logits_real + self._untouched(GENERATOR_PARTS | {CRITIC}), logits_fake, penalty)

    def _untouched(self, parts: frozenset[str]) -> Tensor | float:
        """0 that depends on all parameters of the *parts* that rest.

        Distributed data-parallel waits for the gradient of every parameter; without this it would need the slow
        search for unused ones. The task removes these gradients before the step.
        """
        if not (torch.is_grad_enabled() and torch.distributed.is_available() and torch.distributed.is_initialized()):
            return 0.0
        zeros = [p.flatten()[:1].sum() * 0 for p in self.parameters() if p.requires_grad and p.part in parts]
        return sum(zeros) if zeros else 0.0

    @torch.no_grad()
    def reference_logits(self, trajectory: Trajectory) -> Tensor:
        """Logits (B, T, V) of the reference for *trajectory*, given the z that it was drawn with."""
        previous = shift_right(trajectory.tokens, trajectory.mask, self.decoder.eos, self.decoder.pad)
        return self.reference_decoder.teacher_forced(previous, trajectory.z, regularize=False)


def _embedding(cfg: Any, dictionary: Any) -> nn.Embedding:
    return nn.Embedding(len(dictionary), cfg.embed_dim, dictionary.pad())


@register_model("seqvae_oracle", dataclass=SeqVAEOracleConfig)
class SeqVAEOracle(SeqVAEModel):
    """Preset: the paper's synthetic experiment."""


@register_model("seqvae_melody", dataclass=SeqVAEMelodyConfig)
class SeqVAEMelody(SeqVAEModel):
    """Preset: the paper's melody experiment."""


@register_model("seqvae_text", dataclass=SeqVAETextConfig)
class SeqVAEText(SeqVAEModel):
    """Preset: the size of text VAEs."""
