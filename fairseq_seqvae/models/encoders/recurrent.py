"""``--encoder recurrent``: a bidirectional LSTM."""

from typing import Any

from fairseq_seqvae.core.networks.lstm import RecurrentSummary
from fairseq_seqvae.models.registry import register_encoder


@register_encoder("recurrent")
class RecurrentFromOptions:
    """``--encoder recurrent``."""

    @staticmethod
    def from_options(options: Any, input_dim: int) -> RecurrentSummary:
        """Build from ``dropout`` and the options that begin with ``encoder_``."""
        return RecurrentSummary(
            input_dim,
            options.encoder_hidden_dim,
            options.encoder_layers,
            options.dropout,
            options.encoder_residual,
            str(options.encoder_pooling),
        )
