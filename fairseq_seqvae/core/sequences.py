"""Batches of sequences of different lengths: masks, cutting, shifting, log-probabilities of tokens."""

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, reference_name: str, reference: tuple[int, ...]) -> None:
    """Raise a ValueError that names both if *tensor* has not the shape of the *reference*."""
    if tuple(tensor.shape) != tuple(reference):
        raise ValueError(
            f"`{name}` must have the shape of `{reference_name}` {tuple(reference)} but is {tuple(tensor.shape)}: "
            "all tensors are batch first."
        )


def padding_mask(lengths: Tensor, max_len: int) -> Tensor:
    """(B, T) with T = *max_len*, True = padding, from *lengths* (B,)."""
    return torch.arange(max_len, device=lengths.device) >= lengths.unsqueeze(1)


def lengths_from_padding(mask: Tensor) -> Tensor:
    """Number of tokens of each row, (B,), from *mask* (B, T), True = padding."""
    return (~mask).sum(dim=1)


def cut_after_eos(tokens: Tensor, eos: int, pad: int) -> tuple[Tensor, Tensor]:
    """Replace everything after the first EOS of each row by padding.

    Args:
        tokens: (B, T)

    Returns:
        tokens (B, T) and lengths (B,), which count the EOS; a row without EOS keeps its length T.
    """
    ended_before = (tokens == eos).cumsum(dim=1).roll(1, dims=1)
    ended_before[:, 0] = 0
    after = ended_before > 0
    return tokens.masked_fill(after, pad), (~after).sum(dim=1)


def shift_right(tokens: Tensor, first: int, pad: int, lengths: Tensor) -> Tensor:
    """Inputs of a decoder that is to produce *tokens*: *first*, then all tokens but the last, (B, T).

    Args:
        tokens: (B, T)
        lengths: (B,); positions from the length of a row on become *pad*
    """
    shifted = torch.cat([tokens.new_full((tokens.size(0), 1), first), tokens[:, :-1]], dim=1)
    return shifted.masked_fill(padding_mask(lengths, tokens.size(1)), pad)


def token_log_probs(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each token, (B, T), nats, float32, 0 at padding.

    Args:
        logits: (B, T, V), any floating type; computed in float32
        tokens: (B, T)
        mask: (B, T), True = padding
    """
    check_shape("tokens", tokens, "logits", logits.shape[:2])
    check_shape("mask", mask, "tokens", tokens.shape)
    vocab_size = logits.size(-1)
    safe_tokens = tokens.masked_fill(mask, 0)
    log_probs = -torch.nn.functional.cross_entropy(
        logits.reshape(-1, vocab_size).float(), safe_tokens.reshape(-1), reduction="none"
    ).view_as(tokens)
    return log_probs.masked_fill(mask, 0.0)
