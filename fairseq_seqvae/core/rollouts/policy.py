"""Sampling from a step function, and Monte Carlo completion of prefixes.

A policy is anything that can start from a latent vector, advance by one token, and turn the features of a step into
logits. Rows are independent. All rows advance together, finished rows leave the batch, and no prefix is ever run
twice: the completions of a prefix start from the state that the policy has after it.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fairseq_seqvae.core.categorical import pick

State = tuple[Tensor, ...]


class Policy(Protocol):
    """What is needed of a decoder. The first input token of a sequence is always EOS, as in fairseq."""

    def start(self, z: Tensor) -> State:
        """State before the first token, for z (R, Z): tensors whose dimension 0 is rows."""

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume one token a row, (R,); features (R, D) of the next token and the new state."""

    def logits(self, features: Tensor) -> Tensor:
        """Logits (R, V) of the next token."""


class Samples(NamedTuple):
    """Sampled sequences.

    Attributes:
        tokens: (B, T), padding after the EOS
        lengths: (B,), EOS included
        log_probs: (B, T) nats at the given temperature, before truncation by top-k or top-p, 0 at padding; or None
    """

    tokens: Tensor
    lengths: Tensor
    log_probs: Tensor | None


class Completions(NamedTuple):
    """Completed prefixes.

    Attributes:
        tokens: (R, max_len), padding after the EOS
        lengths: (R,), EOS included
        rows: (R,), which sequence of the batch the prefix is of
        prefix_lengths: (R,), how many tokens were given
    """

    tokens: Tensor
    lengths: Tensor
    rows: Tensor
    prefix_lengths: Tensor


def rows_per_block(device: torch.device, vocab_size: int) -> int:
    """How many rows of logits to make at a time: few enough for the cache of a CPU, many enough to fill a GPU."""
    entries = 1 << (20 if device.type == "cpu" else 26)
    return max(64, entries // vocab_size)


def drops_finished_rows(device: torch.device) -> bool:
    """Finding the finished rows makes the host wait for the device: on a GPU that costs more than it saves."""
    return device.type == "cpu"


def choose(policy: Policy, features: Tensor, uniform: Tensor, **options) -> Tensor:
    """Draw the next tokens, shape of *uniform*, making the logits in blocks of rows."""
    logits = policy.logits(features[:64])
    chosen = [pick(logits, uniform[:64], **options)]
    if features.size(0) > 64:
        block = rows_per_block(features.device, logits.size(1))
        pairs = zip(features[64:].split(block), uniform[64:].split(block), strict=True)
        chosen += [pick(policy.logits(rows), numbers, **options) for rows, numbers in pairs]
    return torch.cat(chosen)
