"""The built-in discriminators, made from the model's options."""

from typing import Any

from torch import nn

from fairseq_seqvae import options
from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.registry import DISCRIMINATORS, build_discriminator, register_discriminator
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator
from fairseq_seqvae.core.networks.spectral import normalise_spectrally
from fairseq_seqvae.models.config import ConvolutionalOptions


@register_discriminator("cnn")
class CnnFromOptions:
    """``--discriminator cnn``."""

    @staticmethod
    def from_config(cfg: Any, vocab_size: int, padding_idx: int) -> ConvolutionalDiscriminator:
        """Build from ``disc_embed_dim``, ``disc_widths``, ``disc_features``, ...; ValueError for bad lists."""
        options.check(cfg, ConvolutionalOptions)
        widths, features = options.whole_numbers(cfg.disc_widths), options.whole_numbers(cfg.disc_features)
        if len(features) == 1:
            features = features * len(widths)
        discriminator = ConvolutionalDiscriminator(
            vocab_size,
            padding_idx,
            cfg.disc_embed_dim,
            widths,
            features,
            cfg.disc_highway_layers,
            cfg.disc_tied_highway,
            cfg.disc_dropout,
        )
        if getattr(cfg, "disc_spectral_norm", False):
            normalise_spectrally(discriminator)
        return discriminator


@register_discriminator("rnn")
class RnnFromOptions:
    """``--discriminator rnn``."""

    @staticmethod
    def from_config(cfg: Any, vocab_size: int, padding_idx: int) -> RecurrentDiscriminator:
        """Build from ``disc_embed_dim``, ``disc_hidden_dim``, ``disc_layers``, ``disc_dropout``."""
        sizes = (cfg.disc_embed_dim, cfg.disc_hidden_dim, cfg.disc_layers, cfg.disc_dropout)
        return RecurrentDiscriminator(vocab_size, padding_idx, *sizes)


def chosen_discriminator(cfg: Any, dictionary: Any, num_labels: int = 0) -> nn.Module:
    """The discriminator that the options name, from a file of the user if need be.

    Args:
        cfg: of the model
        dictionary: of the sequences
        num_labels: tokens after those of the dictionary, which stand for labels

    Raises:
        ValueError: there is none of that name
    """
    if cfg.discriminator not in DISCRIMINATORS:
        raise ValueError(
            f"unknown discriminator {cfg.discriminator!r}: choose one of {', '.join(sorted(DISCRIMINATORS))}, or name "
            "the file that registers it with --module."
        )
    return build_discriminator(cfg.discriminator, cfg, len(dictionary) + num_labels, dictionary.pad())
