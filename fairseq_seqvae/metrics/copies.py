"""How many sequences are copies of known ones."""

from collections.abc import Iterable

from torch import Tensor


def share_of_copies(tokens: Tensor, lengths: Tensor, known_tokens: Tensor, known_lengths: Tensor) -> float:
    """Share of the sequences (B, T) that occur among the known ones (N, T'), as a whole.

    Args:
        tokens: (B, T), padded on the right
        lengths: (B,), EOS included where sequences end with one
        known_tokens: (N, T'), such as the training data
        known_lengths: (N,)
    """
    known = set(_rows(known_tokens, known_lengths))
    return sum(row in known for row in _rows(tokens, lengths)) / len(tokens)


def _rows(tokens: Tensor, lengths: Tensor) -> Iterable[tuple[int, ...]]:
    for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True):
        yield tuple(row[:length])
