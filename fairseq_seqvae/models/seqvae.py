"""The model: encoder, decoder, and the discriminator and the rollout policy that train the decoder."""

import copy
import logging
import zlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from fairseq.models import FairseqEncoderDecoderModel, register_model
from torch import Tensor, nn

from fairseq_seqvae import options
from fairseq_seqvae.core.discriminators import build_discriminator
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.models.config import (
    ConvolutionalOptions,
    SeqVAEConfig,
    SeqVAEMelodyConfig,
    SeqVAEOracleConfig,
    SeqVAETextConfig,
)
from fairseq_seqvae.models.decoders.recurrent import SeqVAEDecoder
from fairseq_seqvae.models.encoders.recurrent import SeqVAEEncoder
from fairseq_seqvae.support import checkpoints
from fairseq_seqvae.support.extensions import import_module_files

logger = logging.getLogger(__name__)

GENERATOR = "generator"
DISCRIMINATOR = "discriminator"
# How the names of the rollout policy's exact parameters begin in a checkpoint of a run in half precision.
EXACT_ROLLOUT = "exact_rollout."


class GeneratorOutput(NamedTuple):
    """What a generator's turn needs with gradient.

    Attributes:
        logits: (B, T, V), of the data given z ~ q(z|x)
        posterior: q(z|x)
        policy_logits: (B, T', V), of the trajectories given the z that they were sampled with; or None
    """

    logits: Tensor
    posterior: DiagonalGaussian
    policy_logits: Tensor | None


def dictionary_digest(dictionary) -> int:
    """A number that tells dictionaries apart, from their symbols in their order."""
    return zlib.crc32("\n".join(dictionary.symbols).encode()) & 0x7FFFFFFF


@register_model("seqvae", dataclass=SeqVAEConfig)
class SeqVAEModel(FairseqEncoderDecoderModel):
    """Sequence variational autoencoder with policy gradient (Gao, Cui, Ding 2021).

    Besides encoder and decoder it holds what is needed to train them against each other: the ``discriminator`` and
    ``rollout_decoder``, a lagging copy of the decoder that completes prefixes. They are part of the model so that
    fairseq trains, reduces over processes, saves and restores them; for inference they are left out.

    Each parameter is tagged with the player that it belongs to (``param_group``).
    """

    def __init__(self, encoder: SeqVAEEncoder, decoder: SeqVAEDecoder, discriminator: nn.Module | None = None):
        super().__init__(encoder, decoder)
        self.discriminator = discriminator
        self.rollout_decoder = None
        if discriminator is not None:
            self.rollout_decoder = copy.deepcopy(decoder).requires_grad_(False)
        # Its parameters in float32, where the model has half precision; see update_rollout_policy.
        self._exact_rollout: list[Tensor] | None = None
        # "version" in its name keeps fairseq's moving average of parameters away from this integer.
        self.register_buffer("dictionary_version", torch.tensor(dictionary_digest(decoder.dictionary)))
        for parameter in self.parameters():
            parameter.param_group = GENERATOR
        if discriminator is not None:
            for parameter in discriminator.parameters():
                parameter.param_group = DISCRIMINATOR

    @classmethod
    def build_model(cls, cfg, task) -> "SeqVAEModel":
        """Build from the options; *task* gives the dictionary and says whether a discriminator is of use."""
        dictionary = task.source_dictionary
        options.check(cfg, SeqVAEConfig)

        def embedding() -> nn.Embedding:
            return nn.Embedding(len(dictionary), cfg.embed_dim, dictionary.pad())

        encoder_embedding = embedding()
        encoder = SeqVAEEncoder(
            dictionary,
            encoder_embedding,
            cfg.encoder_hidden_dim,
            cfg.encoder_layers,
            cfg.latent_dim,
            cfg.dropout,
            cfg.encoder_residual,
            cfg.max_positions,
        )
        # fairseq-preprocess fills the dictionary up to a multiple of 8 with symbols of this name.
        forbidden = [i for i, symbol in enumerate(dictionary.symbols) if symbol.startswith("madeupword")]
        decoder = SeqVAEDecoder(
            dictionary,
            embedding() if cfg.no_share_embeddings else encoder_embedding,
            cfg.decoder_hidden_dim,
            cfg.decoder_layers,
            cfg.latent_dim,
            cfg.dropout,
            cfg.word_dropout,
            cfg.decoder_residual,
            cfg.latent_input,
            cfg.share_output_embed,
            cfg.fixed_length,
            cfg.max_positions,
            [dictionary.bos(), dictionary.pad(), *forbidden],
        )
        discriminator = None
        if getattr(task, "needs_discriminator", True):
            options.check(cfg, ConvolutionalOptions)
            import_module_files(cfg.module, "--module")
            import_module_files(cfg.disc_module, "--disc-module")
            discriminator = build_discriminator(cfg.discriminator, cfg, len(dictionary), dictionary.pad())
        return cls(encoder, decoder, discriminator)

    @classmethod
    def from_pretrained(cls, model_name_or_path, checkpoint_file="checkpoint_best.pt", data_name_or_path=".", **kwargs):
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

    # -- everything that carries gradient --

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor, prev_output_tokens: Tensor, mode: str | None = None, **inputs
    ):
        """One entry for all that carries gradient, so that a distributed wrapper sees one forward an update.

        Args:
            src_tokens: (B, T), padded on the right
            src_lengths: (B,)
            prev_output_tokens: (B, T)
            mode: None: fairseq's meaning, returns (logits (B, T, V), {}) with z = mean of the posterior;
                ``generator``: a :class:`GeneratorOutput`, see :meth:`generator_turn`;
                ``discriminator``: logits of real and of fake sequences, see :meth:`discriminator_turn`
        """
        if mode is None:
            encoder_out = self.encoder(src_tokens, src_lengths, z=inputs.get("z"))
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
        policy_inputs: tuple[Tensor, Tensor] | None = None,
    ) -> GeneratorOutput:
        """Reconstruct the data and score trajectories.

        Args:
            noise: (B, Z), standard normal, that draws z from the posterior
            word_dropout_keys: (B,), see :meth:`SeqVAEDecoder.teacher_forced`
            policy_inputs: previous tokens (B, T') of the trajectories and the z (B, Z) that they were drawn with
        """
        posterior = self.encoder.posterior(src_tokens, src_lengths)
        logits = self.decoder.teacher_forced(
            prev_output_tokens, posterior.sample(noise), regularize=True, keys=word_dropout_keys
        )
        policy_logits = None
        if policy_inputs is not None:
            policy_logits = self.decoder.teacher_forced(*policy_inputs, regularize=False)
        return GeneratorOutput(logits + self._untouched(DISCRIMINATOR), posterior, policy_logits)

    def discriminator_turn(
        self, real_tokens: Tensor, real_mask: Tensor, fake_tokens: Tensor, fake_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of real (B,) and of fake (B',) sequences, seen as one batch; masks (B, T), True = padding."""
        width = max(real_tokens.size(1), fake_tokens.size(1))
        batches = ((real_tokens, real_mask), (fake_tokens, fake_mask))
        tokens = torch.cat([F.pad(t, (0, width - t.size(1)), value=self.decoder.pad) for t, _ in batches])
        mask = torch.cat([F.pad(m, (0, width - m.size(1)), value=True) for _, m in batches])
        logits = self.discriminator(tokens, mask)
        logits_real, logits_fake = logits.split([real_tokens.size(0), fake_tokens.size(0)])
        return logits_real + self._untouched(GENERATOR), logits_fake

    def _untouched(self, player: str) -> Tensor | float:
        """0 that depends on all parameters of the player that rests.

        Distributed data-parallel waits for the gradient of every parameter; without this it would need the slow
        search for unused ones. The task removes these gradients before the step.
        """
        if not (torch.is_grad_enabled() and torch.distributed.is_available() and torch.distributed.is_initialized()):
            return 0.0
        zeros = [p.flatten()[:1].sum() * 0 for p in self.parameters() if p.requires_grad and p.param_group == player]
        return sum(zeros) if zeros else 0.0

    # -- the rollout policy --

    @torch.no_grad()
    def update_rollout_policy(self, lag: float) -> None:
        """w <- lag * w + (1 - lag) * w_decoder, for each parameter of the rollout policy; lag 0 copies.

        In half precision w stops as soon as its moves are smaller than the distance to the next number. So it is kept
        in float32 there, and in checkpoints besides.
        """
        policy, decoder = list(self.rollout_decoder.parameters()), list(self.decoder.parameters())
        exact = self._exact_rollout_parameters() or policy
        for weight, kept, target in zip(policy, exact, decoder, strict=True):
            kept.lerp_(target.to(kept.dtype), 1.0 - lag) if lag else kept.copy_(target)
            if kept is not weight:
                weight.copy_(kept)

    def _exact_rollout_parameters(self) -> list[Tensor] | None:
        """Those of the rollout policy in float32, where the model has half precision."""
        policy = list(self.rollout_decoder.parameters()) if self.rollout_decoder is not None else []
        if not policy or policy[0].dtype not in (torch.float16, torch.bfloat16):
            return None
        if self._exact_rollout is None:
            self._exact_rollout = [p.detach().float() for p in policy]
        self._exact_rollout = [kept.to(p.device) for kept, p in zip(self._exact_rollout, policy, strict=True)]
        return self._exact_rollout

    def drop_adversary(self) -> None:
        """Leave out what only adversarial training needs."""
        self.discriminator = None
        self.rollout_decoder = self._exact_rollout = None

    # -- checkpoints --

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if exact := self._exact_rollout_parameters():
            for (name, _), kept in zip(self.rollout_decoder.named_parameters(), exact, strict=True):
                destination[f"{prefix}{EXACT_ROLLOUT}{name}"] = kept

    def load_state_dict(self, state_dict: dict, *args, **kwargs):
        """As fairseq's; ValueError, instead of torch's list of all tensors, for a model of other options."""
        try:
            return super().load_state_dict(state_dict, *args, **kwargs)
        except RuntimeError as error:
            reasons = str(error).splitlines()[1:]
            raise ValueError(
                f"the checkpoint holds a model of other options ({len(reasons)} differences, the first: "
                f"{reasons[0].strip()}): give the --arch and the sizes that it was trained with, or begin anew in "
                "another --save-dir."
            ) from error

    def upgrade_state_dict_named(self, state_dict: dict, name: str) -> None:
        """Fit a checkpoint to this model: without or with the adversary, whatever it was saved with."""
        super().upgrade_state_dict_named(state_dict, name)
        prefix = f"{name}." if name else ""
        exact = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(f"{prefix}{EXACT_ROLLOUT}")}
        self._exact_rollout = None  # of the weights that are replaced now
        if exact and self.rollout_decoder is not None:
            names = [name for name, _ in self.rollout_decoder.named_parameters()]
            self._exact_rollout = [exact[f"{prefix}{EXACT_ROLLOUT}{name}"].float().clone() for name in names]
        if not checkpoints.is_seqvae(state_dict, prefix):
            raise ValueError("the checkpoint holds another model than a SeqVAE: give one of --arch seqvae.")
        self._check_dictionary(state_dict, prefix)
        for part in ("discriminator", "rollout_decoder"):
            module = getattr(self, part)
            saved = [key for key in state_dict if key.startswith(f"{prefix}{part}.")]
            if module is None:
                for key in saved:
                    del state_dict[key]
            elif not saved:
                start = "anew" if part == "discriminator" else "as a copy of the decoder"
                logger.info(f"the checkpoint holds no {part}: it starts {start}")
                for key, value in module.state_dict().items():
                    if part == "rollout_decoder":
                        value = state_dict[f"{prefix}decoder.{key}"]
                    state_dict[f"{prefix}{part}.{key}"] = value.clone()

    def _check_dictionary(self, state_dict: dict, prefix: str) -> None:
        weight = state_dict.get(f"{prefix}encoder.embedding.weight")
        digest = state_dict.setdefault(f"{prefix}dictionary_version", self.dictionary_version)
        size = len(self.decoder.dictionary)
        if weight is not None and weight.size(0) != size:
            raise ValueError(
                f"the checkpoint was trained with a dictionary of {weight.size(0)} symbols but the data folder has one "
                f"of {size}: use the data folder (dict.txt) that the model was trained with."
            )
        if int(digest) != int(self.dictionary_version):
            raise ValueError(
                "the checkpoint was trained with a dictionary of the same size but of other symbols, or in another "
                "order: use the data folder (dict.txt) that the model was trained with."
            )


@register_model("seqvae_oracle", dataclass=SeqVAEOracleConfig)
class SeqVAEOracle(SeqVAEModel):
    """Preset: the paper's synthetic experiment."""


@register_model("seqvae_melody", dataclass=SeqVAEMelodyConfig)
class SeqVAEMelody(SeqVAEModel):
    """Preset: the paper's melody experiment."""


@register_model("seqvae_text", dataclass=SeqVAETextConfig)
class SeqVAEText(SeqVAEModel):
    """Preset: the size of text VAEs."""
