"""Encoder: tokens -> parameters of q(z|x)."""

import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoder
from torch import Tensor, nn

from fairseq_seqvae.core.latents.base import Posterior
from fairseq_seqvae.core.networks.lstm import BidirectionalLSTM
from fairseq_seqvae.models.encoders.heads import HeadShape, PosteriorHead


class SeqVAEEncoder(PosteriorHead, FairseqEncoder):
    """Bidirectional LSTM; the posterior from its last forward and last backward state.

    Args:
        dictionary: fairseq dictionary
        embedding: token embeddings (V, E)
        hidden_dim: size of each direction
        layers: number of layers
        head: what becomes of the states; with Z = 0 there is nothing to encode, and the decoder is a language model
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
        head: HeadShape,
        dropout: float,
        residual: bool,
        max_positions: int,
    ):
        super().__init__(dictionary)
        self.embedding = embedding
        self.dropout = dropout
        features_dim = 0
        if head.latent_dim:
            self.lstm = BidirectionalLSTM(embedding.embedding_dim, hidden_dim, layers, dropout, residual)
            features_dim = self.lstm.output_dim
        self.add_head(features_dim, head)
        self._max_positions = max_positions

    def posterior(self, src_tokens: Tensor, src_lengths: Tensor) -> Posterior:
        """q(z|x) of *src_tokens* (B, T), padded on the right, of *src_lengths* (B,)."""
        if not self.latent_dim:
            return self.posterior_of_nothing(src_tokens)
        embedded = F.dropout(self.embedding(src_tokens), self.dropout, self.training)
        _, final = self.lstm(embedded, src_lengths)
        return self.posterior_of(final)

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
