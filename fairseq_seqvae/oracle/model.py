"""The oracle as a policy of known probabilities: exact likelihoods, and samples by the package's own sampler."""

from os import PathLike
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import State
from fairseq_seqvae.core.rollouts.rollout import sample
from fairseq_seqvae.metrics.likelihood import sequence_log_probs
from fairseq_seqvae.oracle import weights as arrays

START_TOKEN = 0
_ROWS_AT_A_TIME = 1024


class Estimate(NamedTuple):
    """A mean over independent sequences, nats per token, and its standard error (nan for a single sequence)."""

    mean: float
    standard_error: float


def estimate(values: Tensor) -> Estimate:
    """Mean of *values* (N,) and its standard error; ValueError without any value."""
    if values.numel() == 0:
        raise ValueError("there is no mean of no sequences: give at least one.")
    values = values.double()
    return Estimate(float(values.mean()), float(values.std()) / len(values) ** 0.5 if len(values) > 1 else float("nan"))


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """States h and c, (R, H), after a step of the LSTM with *gates* (R, 4H) from the former *c* (R, H)."""
    i, f, o, candidate = gates.chunk(len(arrays.GATES), dim=1)
    c = f.sigmoid() * c + i.sigmoid() * candidate.tanh()
    return o.sigmoid() * c.tanh(), c


class Oracle:
    """An LSTM language model over tokens 0 .. V-1, of sequences of any given length without end symbol.

    The state begins at zero. The first input is the embedding of token 0, which is a token like all others too:
    hence, for the sampler, which begins with the end symbol and stops at it, the end symbol is `start_symbol`, a number
    that is never drawn and whose input is that of token 0. Otherwise it is a :class:`rollouts.Policy` that looks at no
    latent vector.

    Args:
        weights: arrays by name, see :func:`weights.shapes`
    """

    def __init__(self, weights: arrays.Weights):
        self.weights = arrays.checked_weights(weights)
        tensors = {name: torch.from_numpy(array) for name, array in self.weights.items()}
        self.vocab_size = len(tensors["embedding"])
        self.start_symbol = self.vocab_size
        self.eos = self.pad = self.start_symbol
        w, u, b = (torch.cat([tensors[letter + gate] for gate in arrays.GATES], dim=-1) for letter in "WUb")
        # What a token contributes to the gates is the same at each of its places: (V, 4H), and the start behind it.
        inputs = torch.addmm(b, tensors["embedding"], w)
        self._inputs = torch.cat([inputs, inputs[START_TOKEN : START_TOKEN + 1]])
        self._recurrent = u
        self.output, self.output_bias = tensors["Wo"], tensors["bo"]

    @classmethod
    def from_seed(
        cls, seed: int, vocab_size: int = 5000, embed_dim: int = 32, hidden_dim: int = 32, scale: float = 1.0
    ) -> "Oracle":
        """Draw the weights; seed 88 with the defaults is the oracle of the paper.

        Args:
            seed: of the weights
            vocab_size: V
            embed_dim: size of the embeddings
            hidden_dim: H
            scale: factor of all weights; above 1 the language has a lower entropy
        """
        return cls(arrays.draw_weights(seed, vocab_size, embed_dim, hidden_dim, scale))

    @classmethod
    def from_npz(cls, path: str | PathLike) -> "Oracle":
        """Read the weights, arrays named as in :data:`weights.NAMES`; ValueError names the file and what is wrong."""
        weights = arrays.read_weights(path)
        try:
            return cls(weights)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def save_npz(self, path: str | PathLike) -> None:
        """Write the weights as :meth:`from_npz` reads them."""
        arrays.write_weights(self.weights, path)

    # -- policy --

    def start(self, z: Tensor) -> State:
        """Zero states h and c, (R, H), for as many rows as *z* (R, anything) has."""
        zeros = torch.zeros(len(z), len(self._recurrent))
        return zeros, zeros

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume one token per row, (R,), `start_symbol` at first; h (R, H) and the new state."""
        h, c = state
        h, c = cell(self.gates(prev_tokens, h), c)
        return h, (h, c)

    def gates(self, prev_tokens: Tensor, h: Tensor) -> Tensor:
        """Gates before their nonlinearities, (R, 4H) in the order of `GATES`, of tokens (R,) after the state h."""
        return torch.addmm(self._inputs[prev_tokens], h, self._recurrent)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (R, V) of the next token from h (R, H)."""
        return torch.addmm(self.output_bias, features, self.output)

    # -- use --

    def nll(self, tokens: Tensor) -> Tensor:
        """Negative log-likelihood of each sequence: the mean over its tokens, nats per token, (B,) float32.

        Args:
            tokens: (B, T), int64, T at least 1; all T tokens count. Memory does not grow with B.
        """
        self.check_tokens(tokens)
        return torch.cat([self._nll_of_some(rows) for rows in tokens.split(_ROWS_AT_A_TIME)])

    def sample(self, n: int, length: int, seed: int, draw: int = 0) -> Tensor:
        """Draw *n* sequences of *length* tokens, (n, length) int64.

        Row r is a function of (seed, draw, r), up to rounding, and its beginning does not depend on *length*.

        Args:
            seed: any whole number
            draw: number of the sample: those of one seed are independent of each other
        """
        if n < 1 or length < 1:
            raise ValueError(f"`n` and `length` must be at least 1 but are {n} and {length}.")
        keys = Draws(seed, draw).keys(Stream.ORACLE, torch.arange(n))
        return sample(self, torch.empty(n, 0), keys, max_len=length).tokens

    def entropy_estimate(self, n: int, length: int, seed: int) -> Estimate:
        """Entropy of the language, nats per token: the mean NLL of *n* of its own samples.

        Samples of a model may have a lower NLL, if the model keeps to what is likely and leaves out the rest.
        """
        return estimate(self.nll(self.sample(n, length, seed)))

    def _nll_of_some(self, tokens: Tensor) -> Tensor:
        lengths = tokens.new_full((len(tokens),), tokens.size(1))
        no_latent = torch.empty(len(tokens), 0)
        log_probs = sequence_log_probs(self, no_latent, tokens, lengths)
        return (-log_probs[:, 0] / tokens.size(1)).float()

    def check_tokens(self, tokens: Tensor) -> None:
        """Raise a ValueError or TypeError unless *tokens* are sequences (B, T) of this oracle."""
        if tokens.dim() != 2 or tokens.size(1) < 1:
            raise ValueError(
                f"`tokens` must have the shape (B, T) with T at least 1 but has {tuple(tokens.shape)}: one sequence a "
                "row."
            )
        if tokens.dtype != torch.int64:
            raise TypeError(f"`tokens` must be of type torch.int64 but is {tokens.dtype}: use tokens.long().")
        lowest, highest = (int(tokens.min()), int(tokens.max())) if tokens.numel() else (0, 0)
        if lowest < 0 or highest >= self.vocab_size:
            raise ValueError(
                f"`tokens` must lie in 0 .. {self.vocab_size - 1} but reach from {lowest} to {highest}: fairseq's "
                "indices are 4 higher than the oracle's tokens."
            )
