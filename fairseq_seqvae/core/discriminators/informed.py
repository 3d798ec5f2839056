"""A discriminator that knows more than the tokens: what has been counted, and what a language model says."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_seqvae.core.rollouts.policy import Completions
from fairseq_seqvae.core.sequences import lengths_from_padding


class InformedDiscriminator(nn.Module):
    """Adds up two log-odds: those of a discriminator of tokens, and those of a small net on features of each token.

    That net is two layers on the features of a token, the mean over all tokens, and two layers on the mean.

    Args:
        reader: discriminator of tokens; None: the features alone decide
        features: each gives ``num_features`` numbers per token: (tokens, padding mask) -> (B, T, F)
        hidden_dim: size of the layers
        dropout: probability, on the mean
    """

    def __init__(self, reader: nn.Module | None, features: Sequence[Any], hidden_dim: int = 32, dropout: float = 0.0):
        super().__init__()
        self.reader = reader
        self.features = nn.ModuleList(features)
        width = sum(part.num_features for part in features)
        self.per_token = nn.Sequential(
            nn.Linear(width, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU()
        )
        self.per_sequence = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Dropout(dropout))
        self.verdict = nn.Linear(hidden_dim, 1)

    def forward(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """Logits (B,) of *tokens* (B, T); *padding_mask* (B, T), True = padding."""
        logits = self._of_features(tokens, padding_mask)
        return logits if self.reader is None else logits + self.reader(tokens, padding_mask)

    def _of_features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        found = torch.cat([part(tokens, mask) for part in self.features], dim=2)
        hidden = self.per_token(found.to(self.verdict.weight.dtype)).masked_fill(mask.unsqueeze(2), 0.0)
        mean = hidden.sum(dim=1) / lengths_from_padding(mask).clamp(min=1).unsqueeze(1)
        return self.verdict(self.per_sequence(mean)).squeeze(1)

    @property
    def output(self) -> nn.Module:
        """The last layers, of both parts."""
        own = getattr(self.reader, "output", None)
        return nn.ModuleList([self.verdict] if own is None else [self.verdict, own])

    # -- scoring completed prefixes: as the discriminator of tokens does, if it knows a faster way --

    def tables_pay(self, num_tokens: int) -> bool:
        """See :meth:`ConvolutionalDiscriminator.tables_pay`."""
        reader: Any = self.reader
        return reader.tables_pay(num_tokens)

    @property
    def logits_by_tables(self) -> Callable[[Completions, Tensor], Tensor]:
        """See :meth:`ConvolutionalDiscriminator.logits_by_tables`; missing where the reader has no such method."""
        reader: Any = self.reader
        by_tables = reader.logits_by_tables  # an AttributeError says that there is none

        def logits(completions: Completions, prefixes: Tensor) -> Tensor:
            own = self._of_features(completions.tokens, completions.mask)
            return own + by_tables(completions, prefixes)

        return torch.no_grad()(logits)
