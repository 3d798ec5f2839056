"""What a policy is, and what is made with one: trajectories, samples, completed prefixes.

A policy is anything that can start from a latent vector, advance by one token, and turn the features of a step into
logits. Rows are independent.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fairseq_seqvae.core.categorical import pick
from fairseq_seqvae.core.sequences import padding_mask

State = tuple[Tensor, ...]


class Policy(Protocol):
    """What is needed of a decoder. The first input token of a sequence is always EOS, as in fairseq.

    Attributes:
        eos, pad: numbers of these tokens
    """

    eos: int
    pad: int

    def start(self, z: Tensor) -> State:
        """State before the first token, for z (R, Z): tensors whose dimension 0 is rows."""

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume one token per row, (R,); features (R, D) of the next token and the new state."""

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
    log_probs: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """(B, T), True = padding."""
        return padding_mask(self.lengths, self.tokens.size(1))


class Trajectory(NamedTuple):
    """Sequences that are rewarded.

    Attributes:
        tokens: (B, T), padded on the right
        lengths: (B,)
        z: (B, Z), the latent vectors that the tokens were drawn with
        ids: (B,), numbers of the sentences in their data set, which key random numbers
    """

    tokens: Tensor
    lengths: Tensor
    z: Tensor
    ids: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, T), True = padding."""
        return padding_mask(self.lengths, self.tokens.size(1))


class Completions(NamedTuple):
    """Completed prefixes.

    Attributes:
        tokens: (R, max_len), padding after the EOS
        lengths: (R,), EOS included
        rows: (R,), the sequence of the batch that the prefix is from
        prefix_lengths: (R,), how many tokens were given
    """

    tokens: Tensor
    lengths: Tensor
    rows: Tensor
    prefix_lengths: Tensor


@dataclass(frozen=True)
class RolloutPlan:
    """Which prefixes are completed, how often, and how far.

    Attributes:
        num_rollouts: K, completions of each prefix
        stride: prefixes of length stride, 2 stride, ... below the length of their sequence are completed
        max_len: longest completion, in tokens
        chunk_rows: completions held in memory at a time
    """

    num_rollouts: int
    stride: int
    max_len: int
    chunk_rows: int = 2048

    def __post_init__(self) -> None:
        for name in ("num_rollouts", "stride", "max_len", "chunk_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1 but is {getattr(self, name)}.")


def rows_per_block(device: torch.device, vocab_size: int) -> int:
    """How many rows of logits to make at a time: few enough for the cache of a CPU, many enough to fill a GPU."""
    entries = 1 << (20 if device.type == "cpu" else 26)
    return max(64, entries // vocab_size)


def drops_finished_rows(device: torch.device) -> bool:
    """Whether finished rows leave the batch: to find them, the host waits for the device, which costs much on a GPU."""
    return device.type == "cpu"


def choose(policy: Policy, features: Tensor, uniform: Tensor, **options: float) -> Tensor:
    """Draw the next tokens, shape of *uniform*, making the logits in blocks of rows.

    Args:
        policy: makes logits of the features
        features: (R, D)
        uniform: (R,), or (R, K) for K draws per row
        options: ``temperature``, ``top_k``, ``top_p``, see :func:`fairseq_seqvae.core.categorical.pick`
    """
    logits = policy.logits(features[:64])
    chosen = [pick(logits, uniform[:64], **options)]
    if features.size(0) > 64:
        block = rows_per_block(features.device, logits.size(1))
        pairs = zip(features[64:].split(block), uniform[64:].split(block), strict=True)
        chosen += [pick(policy.logits(rows), numbers, **options) for rows, numbers in pairs]
    return torch.cat(chosen)
