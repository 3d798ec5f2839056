"""Encoder: tokens -> parameters of q(z|x)."""

import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoder
from torch import Tensor, nn

from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian, StandardNormal
from fairseq_seqvae.core.networks.lstm import BidirectionalLSTM

# Added to the standard deviation, so that the divergence stays finite where softplus underflows in half precision.
_SMALLEST_STD = 1e-4


class SeqVAEEncoder(FairseqEncoder):
    """Bidirectional LSTM; mean and standard deviation from its last forward and last backward state.

    Args:
        dictionary: fairseq dictionary
        embedding: token embeddings (V, E)
        hidden_dim: size of each direction
        layers: number of layers
        latent_dim: Z; 0: there is nothing to encode, and the decoder is a language model
        dropout: probability, on the embeddings and between layers
        residual: residual connections between layers
        max_positions: longest input that is accepted, EOS included
    """

    def __init__(
        self,
        dictionary: Dictionary,
        embedding: nn.Embedding,
        hidden_dim: int,
        layers: int,
        latent_dim: int,
        dropout: float,
        residual: bool,
        max_positions: int,
    ):
        super().__init__(dictionary)
        self.embedding = embedding
        self.dropout = dropout
        self.latent_dim = latent_dim
        self.prior = StandardNormal(latent_dim)
        if latent_dim:
            self.lstm = BidirectionalLSTM(embedding.embedding_dim, hidden_dim, layers, dropout, residual)
            self.mean = nn.Linear(self.lstm.output_dim, latent_dim)
            self.raw_std = nn.Linear(self.lstm.output_dim, latent_dim)
        self._max_positions = max_positions

    def posterior(self, src_tokens: Tensor, src_lengths: Tensor) -> DiagonalGaussian:
        """q(z|x) of *src_tokens* (B, T), padded on the right, of *src_lengths* (B,)."""
        if not self.latent_dim:
            nothing = self.embedding.weight.new_empty(src_tokens.size(0), 0, dtype=torch.float32)
            return DiagonalGaussian(nothing, nothing)
        embedded = F.dropout(self.embedding(src_tokens), self.dropout, self.training)
        _, final = self.lstm(embedded, src_lengths)
        # The distribution is kept in float32 under mixed precision: its divergence is a difference of near numbers.
        mean = self.mean(final).float()
        std = F.softplus(self.raw_std(final).float()) + _SMALLEST_STD
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
