"""A bidirectional LSTM that reads the whole sequence (the melody experiment of SeqVAE)."""

from torch import Tensor, nn

from fairseq_seqvae.core.networks.lstm import BidirectionalLSTM
from fairseq_seqvae.core.sequences import lengths_from_padding


class RecurrentDiscriminator(nn.Module):
    """Recurrent discriminator: embeddings, bidirectional LSTM, last state of both directions, linear.

    Args:
        vocab_size: V
        padding_idx: token whose embedding is zero
        embed_dim: size of the embeddings
        hidden_dim: size of each direction
        layers: number of layers
        dropout: probability, on the embeddings, between layers and before the output
    """

    def __init__(
        self, vocab_size: int, padding_idx: int, embed_dim: int, hidden_dim: int, layers: int = 1, dropout: float = 0.0
    ):
        super().__init__()
        self.padding_idx = padding_idx
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx)
        self.lstm = BidirectionalLSTM(embed_dim, hidden_dim, layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.lstm.output_dim, 1)

    def forward(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """Logits (B,) of *tokens* (B, T); *padding_mask* (B, T), True = padding."""
        return self.judge_embedded(self.embedding(tokens.masked_fill(padding_mask, self.padding_idx)), padding_mask)

    def judge_embedded(self, embedded: Tensor, padding_mask: Tensor) -> Tensor:
        """Logits (B,) of embedded sequences (B, T, E), zero vectors at padding; see :meth:`forward`."""
        _, final = self.lstm(self.dropout(embedded), lengths_from_padding(padding_mask))
        return self.output(self.dropout(final)).squeeze(1)
