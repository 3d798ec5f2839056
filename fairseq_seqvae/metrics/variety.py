"""How varied sequences are, by counting."""

import torch
from torch import Tensor

from fairseq_seqvae.core.sequences import padding_mask
from fairseq_seqvae.metrics.registry import register_sample_metric

_BASE = 6364136223846793005  # Knuth's multiplier for arithmetic modulo 2^64


def distinct_ngrams(tokens: Tensor, lengths: Tensor, n: int) -> tuple[int, int]:
    """How many different n-grams there are inside the sequences, and how many in all.

    Args:
        tokens: (B, T), padded on the right
        lengths: (B,), EOS included where sequences end with one
    """
    if n < 1:
        raise ValueError(f"`n` must be at least 1 but is {n}.")
    if n > tokens.size(1):
        return 0, 0
    windows = tokens.unfold(1, n, 1)
    inside = ~padding_mask(lengths - n + 1, windows.size(1))
    found = windows[inside]
    return len(found.unique(dim=0)), len(found)


@register_sample_metric("distinct_sequences")
def distinct_sequences(tokens: Tensor, lengths: Tensor) -> int:
    """How many different sequences there are among the rows of *tokens* (B, T), padding aside."""
    tokens = tokens.masked_fill(padding_mask(lengths, tokens.size(1)), -1)
    return len(tokens.unique(dim=0))


def count_distinct(tokens: Tensor, mask: Tensor) -> Tensor:
    """Number of different sequences, a scalar int64 tensor; by a polynomial hash, so that no GPU has to be waited for.

    Args:
        tokens: (B, T)
        mask: (B, T), True = padding
    """
    powers = torch.full_like(tokens[0], _BASE).cumprod(dim=0)
    hashes = ((tokens + 1) * powers).masked_fill(mask, 0).sum(dim=1)
    return hashes.sort().values.diff().ne(0).sum() + 1


@register_sample_metric("bigrams")
def bigrams(tokens: Tensor, lengths: Tensor) -> int:
    """How many bigrams there are inside the sequences."""
    return distinct_ngrams(tokens, lengths, 2)[1]


@register_sample_metric("distinct_bigrams")
def distinct_bigrams(tokens: Tensor, lengths: Tensor) -> int:
    """How many different bigrams there are inside the sequences."""
    return distinct_ngrams(tokens, lengths, 2)[0]
