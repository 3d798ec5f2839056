"""The built-in discriminators, made from the model's options."""

from typing import Any

from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.registry import register_discriminator
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator


@register_discriminator("cnn")
class CnnFromOptions:
    """``--discriminator cnn``."""

    @staticmethod
    def from_config(cfg: Any, vocab_size: int, padding_idx: int) -> ConvolutionalDiscriminator:
        """Build from ``disc_embed_dim``, ``disc_widths``, ``disc_features``, ...; ValueError for bad lists."""
        widths = numbers(cfg.disc_widths, "--disc-widths")
        features = numbers(cfg.disc_features, "--disc-features")
        if len(features) == 1:
            features = features * len(widths)
        if max(widths) > cfg.max_positions:
            raise ValueError(
                f"--disc-widths: the width {max(widths)} is above --max-positions {cfg.max_positions}, the longest "
                "sequence: give smaller ones."
            )
        return ConvolutionalDiscriminator(
            vocab_size,
            padding_idx,
            cfg.disc_embed_dim,
            widths,
            features,
            cfg.disc_highway_layers,
            cfg.disc_tied_highway,
            cfg.disc_dropout,
        )


@register_discriminator("rnn")
class RnnFromOptions:
    """``--discriminator rnn``."""

    @staticmethod
    def from_config(cfg: Any, vocab_size: int, padding_idx: int) -> RecurrentDiscriminator:
        """Build from ``disc_embed_dim``, ``disc_hidden_dim``, ``disc_layers``, ``disc_dropout``."""
        sizes = (cfg.disc_embed_dim, cfg.disc_hidden_dim, cfg.disc_layers, cfg.disc_dropout)
        return RecurrentDiscriminator(vocab_size, padding_idx, *sizes)


def numbers(text: str, flag: str) -> list[int]:
    """Numbers from a comma-separated list such as "1,2,3"; ValueError names the *flag*."""
    try:
        return [int(part) for part in str(text).split(",")]
    except ValueError:
        raise ValueError(f"{flag} must be numbers separated by commas, such as 1,2,3, but is {text!r}.") from None
