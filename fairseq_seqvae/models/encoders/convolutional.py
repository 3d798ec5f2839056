"""``--encoder convolutional``: strided convolutions, flattened."""

from typing import Any

from fairseq_seqvae.core.networks.convolutions import ConvolutionalSummary
from fairseq_seqvae.models.config import conv_channels, conv_positions
from fairseq_seqvae.models.registry import register_encoder


@register_encoder("convolutional")
class ConvolutionalFromOptions:
    """``--encoder convolutional``."""

    @staticmethod
    def from_options(options: Any, input_dim: int) -> ConvolutionalSummary:
        """Build from ``conv_channels`` and ``latent_positions``."""
        return ConvolutionalSummary(input_dim, conv_channels(options), conv_positions(options))
