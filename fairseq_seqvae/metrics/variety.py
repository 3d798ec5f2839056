"""What is measured of a trained model: likelihood of held-out sequences, use of the latent space, variety of samples.

The likelihood of a latent-variable model is an integral over z. It is bounded from below by importance sampling from
q(z|x) (Burda, Grosse, Salakhutdinov 2016, "Importance weighted autoencoders"), the tighter the more samples.
"""

import torch
from torch import Tensor

from fairseq_seqvae.core.sequences import padding_mask


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


def distinct_sequences(tokens: Tensor, lengths: Tensor) -> int:
    """How many different sequences there are among the rows of *tokens* (B, T), padding aside."""
    tokens = tokens.masked_fill(padding_mask(lengths, tokens.size(1)), -1)
    return len(tokens.unique(dim=0))


_BASE = 6364136223846793005  # Knuth's multiplier for arithmetic modulo 2^64


def count_distinct(tokens: Tensor, mask: Tensor) -> Tensor:
    """Number of different sequences, a scalar int64 tensor; by a polynomial hash, so that no GPU has to be waited for.

    Args:
        tokens: (B, T)
        mask: (B, T), True = padding
    """
    powers = torch.full_like(tokens[0], _BASE).cumprod(dim=0)
    hashes = ((tokens + 1) * powers).masked_fill(mask, 0).sum(dim=1)
    return hashes.sort().values.diff().ne(0).sum() + 1
