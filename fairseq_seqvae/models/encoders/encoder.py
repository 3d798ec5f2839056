"""The encoder: a summary of the tokens becomes the parameters of q(z|x)."""

from typing import Any

import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoder
from torch import Tensor, nn

from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian, StandardNormal
from fairseq_seqvae.models.registry import ENCODERS

# Added to the standard deviation, so that the divergence stays finite where softplus underflows in half precision.
_SMALLEST_STD = 1e-4


class SeqVAEEncoder(FairseqEncoder):
    """Mean and standard deviation of q(z|x) from a summary of the tokens.

    Args:
        dictionary: fairseq dictionary
        embedding: token embeddings (V, E)
        options: of the model (:class:`fairseq_seqvae.models.config.SeqVAEConfig`); ``encoder`` names the network that
            summarises, see :mod:`fairseq_seqvae.models.registry`
    """

    def __init__(self, dictionary: Dictionary, embedding: nn.Embedding, options: Any):
        super().__init__(dictionary)
        self.embedding = embedding
        self.dropout: float = options.dropout
        self.latent_dim: int = options.latent_dim
        self.prior = StandardNormal(self.latent_dim)
        self._max_positions: int = options.max_positions
        if self.latent_dim:
            summary = ENCODERS[options.encoder].from_options(options, embedding.embedding_dim)
            self.lstm = summary  # checkpoints know it by the name of the first there was
            self._max_positions = min(self._max_positions, getattr(summary, "positions", self._max_positions))
            self.mean = nn.Linear(summary.output_dim, self.latent_dim)
            self.raw_std = nn.Linear(summary.output_dim, self.latent_dim)

    def posterior(self, src_tokens: Tensor, src_lengths: Tensor) -> DiagonalGaussian:
        """q(z|x) of *src_tokens* (B, T), padded on the right, of *src_lengths* (B,)."""
        if not self.latent_dim:
            nothing = self.embedding.weight.new_empty(src_tokens.size(0), 0, dtype=torch.float32)
            return DiagonalGaussian(nothing, nothing)
        embedded = F.dropout(self.embedding(src_tokens), self.dropout, self.training)
        features = self.lstm(embedded, src_lengths)
        # The distribution is kept in float32 under mixed precision: its divergence is a difference of near numbers.
        mean = self.mean(features).float()
        std = F.softplus(self.raw_std(features).float()) + _SMALLEST_STD
        return DiagonalGaussian(mean, std)

    def forward(self, src_tokens: Tensor, src_lengths: Tensor, z: Tensor | None = None) -> dict[str, list[Tensor]]:
        """What the decoder needs, in the form that fairseq's generators reorder: ``{"z": [z (B, Z)]}``.

        *z* is taken as given; without it, it is the mean of the posterior.
        """
        if z is None:
            z = self.posterior(src_tokens, src_lengths).mean
        return {"z": [z]}

    def reorder_encoder_out(self, encoder_out: dict[str, list[Tensor]], new_order: Tensor) -> dict[str, list[Tensor]]:
        """Select rows for beam search."""
        return {"z": [z.index_select(0, new_order) for z in encoder_out["z"]]}

    def max_positions(self) -> int:
        """Longest input, EOS included."""
        return self._max_positions
