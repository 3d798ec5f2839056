"""What a policy is, and what is made with one: trajectories, samples, completed prefixes.

A policy is anything that can start from a latent vector, advance by one token, and turn the features of a step into
logits. Rows are independent.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from fairseq_seqvae.core.categorical import check_temperature


class Shared:
    """A part of a state that all rows have in common: a table that rows hold numbers of, so that it is never copied.

    Attributes:
        value: whatever :meth:`Policy.start` has put there
    """

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value


State = tuple[Any, ...]  # of tensors, whose dimension 0 is rows, and of Shared


class Policy(Protocol):
    """What is needed of a decoder. The first input token of a sequence is always EOS, as in fairseq.

    Attributes:
        eos, pad: numbers of these tokens
    """

    eos: int
    pad: int

    def start(self, z: Tensor) -> State:
        """State before the first token, for z (R, Z): tensors whose dimension 0 is rows, or :class:`Shared`."""

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume one token per row, (R,); features (R, D) of the next token and the new state."""

    def logits(self, features: Tensor) -> Tensor:
        """Logits (R, V) of the next token."""


class Samples(NamedTuple):
    """Sampled sequences.

    Attributes:
        tokens: (B, T), padding after the EOS
        lengths: (B,), EOS included
        mask: (B, T), True = padding
        log_probs: (B, T) nats at the given temperature, before truncation by top-k or top-p, 0 at padding; or None
        labels: (B,), that they were made of, where sequences have labels
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor
    log_probs: Tensor | None = None
    labels: Tensor | None = None


class Trajectory(NamedTuple):
    """Sequences that are rewarded.

    Attributes:
        tokens: (B, T), padded on the right
        lengths: (B,)
        mask: (B, T), True = padding
        z: (B, Z), the latent vectors that the tokens were drawn with, after them their labels where there are such
        ids: (B,), numbers of the sentences in their data set, which key random numbers
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor
    z: Tensor
    ids: Tensor


class Completions(NamedTuple):
    """Completed prefixes.

    Attributes:
        tokens: (R, max_len), padding after the EOS
        lengths: (R,), EOS included
        mask: (R, max_len), True = padding
        rows: (R,), the sequence of the batch that the prefix is from
        prefix_lengths: (R,), how many tokens were given
    """

    tokens: Tensor
    lengths: Tensor
    mask: Tensor
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


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are drawn.

    Attributes:
        temperature, top_k, top_p: see :func:`fairseq_seqvae.core.categorical.pick`; top_k 1 is greedy decoding
        min_len: no EOS among the first *min_len* tokens, prefix included
        unk: token whose log-probability is lowered by *unk_penalty* nats
        unk_penalty: see *unk*
        with_log_probs: also return the log-probability of each token
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.0
    min_len: int = 0
    unk: int | None = None
    unk_penalty: float = 0.0
    with_log_probs: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
