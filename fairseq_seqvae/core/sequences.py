"""Batches of sequences of different lengths: masks, cutting, shifting, log-probabilities of tokens."""

import torch
from torch import Tensor

_BASE = 6364136223846793005  # Knuth's multiplier for arithmetic modulo 2^64


def shape_error(name: str, tensor: Tensor, reference_name: str, reference: tuple[int, ...]) -> ValueError:
    """The error about a *tensor* that has not the shape of the *reference*; it names both."""
    return ValueError(
        f"`{name}` must have the shape of `{reference_name}` {tuple(reference)} but is {tuple(tensor.shape)}: "
        "all tensors are batch first."
    )


def padding_mask(lengths: Tensor, max_len: int) -> Tensor:
    """(B, T) with T = *max_len*, True = padding, from *lengths* (B,)."""
    return torch.arange(max_len, device=lengths.device) >= lengths.unsqueeze(1)


def lengths_from_padding(mask: Tensor) -> Tensor:
    """Number of tokens of each row, (B,), from *mask* (B, T), True = padding."""
    return (~mask).sum(dim=1)


def stirred(state: Tensor, tokens: Tensor) -> Tensor:
    """*state* (R,) int64 after one more of *tokens* (R,): chained over a sequence, a number for it.

    The mixing keeps sequences apart that differ in few bits.
    """
    mixed = (state ^ (tokens + 1)) * _BASE
    return mixed ^ ((mixed >> 29) & ((1 << 35) - 1))


def sequence_codes(tokens: Tensor, mask: Tensor) -> Tensor:
    """A number for each sequence of *tokens* (B, T), whatever it is padded with, (B,) int64; *mask*, True = padding.

    Equal for equal sequences, and else by rare chance.
    """
    codes = torch.zeros_like(tokens[:, 0])
    for t in range(tokens.size(1)):
        codes = torch.where(mask[:, t], codes, stirred(codes, tokens[:, t]))
    return codes


def token_log_probs(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of each token, (B, T), nats, float32, 0 at padding.

    Args:
        logits: (B, T, V), any floating type; computed in float32
        tokens: (B, T)
        mask: (B, T), True = padding
    """
    if tokens.shape != logits.shape[:2]:
        raise shape_error("tokens", tokens, "logits", logits.shape[:2])
    if mask.shape != tokens.shape:
        raise shape_error("mask", mask, "tokens", tokens.shape)
    vocab_size = logits.size(-1)
    safe_tokens = tokens.masked_fill(mask, 0)
    log_probs = -torch.nn.functional.cross_entropy(
        logits.reshape(-1, vocab_size).float(), safe_tokens.reshape(-1), reduction="none"
    ).view_as(tokens)
    return log_probs.masked_fill(mask, 0.0)
