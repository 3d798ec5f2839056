"""An oracle with a latent: a language in which z exists, with the truth about z and x by quadrature.

z ~ N(0, I) in two dimensions; a small net turns z into the initial state of a random LSTM and into an input at each of
its steps.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import State
from fairseq_seqvae.core.rollouts.rollout import sample
from fairseq_seqvae.oracle.latent_weights import LATENT_DIM, NET, LatentSizes, draw_latent_weights
from fairseq_seqvae.oracle.model import Oracle, cell
from fairseq_seqvae.oracle.quadrature import Lattice, Truth, integrate
from fairseq_seqvae.oracle.weights import Weights

_LARGEST_LOGIT = 75.0  # a vocabulary of them, each e^this, is finite in float32
_ROWS_AT_A_TIME = 512


class Pairs(NamedTuple):
    """Sequences and what they came from: z (N, 2), tokens (N, T) int64."""

    z: Tensor
    tokens: Tensor


class LatentOracle:
    """A language over tokens 0 .. V-1, of sequences of any given length without end symbol, with a latent vector.

    It is a :class:`rollouts.Policy`: the true decoder p(x|z), for `metrics.held_out` and `rollouts.sample`. As in
    :class:`Oracle` the end symbol is a number that is never drawn.

    Args:
        weights: arrays by name, as :func:`draw_latent_weights` makes them
    """

    def __init__(self, weights: Weights):
        self.language = Oracle(weights)
        self.vocab_size, self.eos, self.pad = self.language.vocab_size, self.language.eos, self.language.pad
        self._net = {name: torch.from_numpy(weights[name]) for name in NET}
        gates = [torch.from_numpy(self.language.weights[f"W{gate}"]) for gate in ("i", "f", "og", "c")]
        self._prepare_log_probs()
        self._net_to_gates = self._net["net_to_x"] @ torch.cat(gates, dim=1)

    def _prepare_log_probs(self) -> None:
        output, bias = self.language.output, self.language.output_bias
        largest = float((output.abs().sum(dim=0) + bias.abs()).max())
        if largest > _LARGEST_LOGIT:
            raise ValueError(
                f"logits of up to {largest:.0f} nats are possible but must stay within {_LARGEST_LOGIT}: give output "
                "weights of a smaller spread, or fewer hidden units."
            )
        # On a CPU 2^x costs half of e^x.
        self._binary_output, self._binary_bias = output / math.log(2), bias / math.log(2)
        self._by_token = output.T.contiguous()

    @classmethod
    def from_seed(cls, seed: int, sizes: LatentSizes | None = None) -> "LatentOracle":
        """Draw the weights; by default those of the sizes and spreads of :class:`LatentSizes`."""
        return cls(draw_latent_weights(seed, sizes or LatentSizes()))

    # -- policy --

    def start(self, z: Tensor) -> State:
        """States h and c, (R, H), and what z adds to the gates of each step, (R, 4H), for z (R, 2)."""
        features = torch.addmm(self._net["net_bias"], z.float(), self._net["z_to_net"]).tanh()
        return (
            (features @ self._net["net_to_h"]).tanh(),
            features @ self._net["net_to_c"],
            features @ self._net_to_gates,
        )

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume one token per row, (R,), `eos` at first; h (R, H) and the new state."""
        h, c, of_z = state
        h, c = cell(self.language.gates(prev_tokens, h) + of_z, c)
        return h, (h, c, of_z)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (R, V) of the next token from h (R, H)."""
        return self.language.logits(features)

    # -- use --

    @torch.no_grad()
    def log_probs(self, z: Tensor, tokens: Tensor) -> Tensor:
        """log p(x|z) of each row of z (R, 2) and tokens (R, T), nats, (R,) float64.

        The numbers of `metrics.sequence_log_probs` in half of its time, since the logits are known to be small.
        """
        total = torch.zeros(len(tokens), dtype=torch.float64)
        prev, state = torch.full_like(tokens[:, 0], self.eos), self.start(z)
        rows = torch.arange(len(tokens)).split(_ROWS_AT_A_TIME)
        buffer = torch.empty(_ROWS_AT_A_TIME, self.vocab_size)
        for target in tokens.unbind(dim=1):
            h, state = self.advance(prev, state)
            total += (h * self._by_token[target]).sum(dim=1) + self.language.output_bias[target]
            for some in rows:
                powers = torch.addmm(self._binary_bias, h[some], self._binary_output, out=buffer[: len(some)]).exp2_()
                total[some] -= powers.sum(dim=1).log()
            prev = target
        return total

    def sample_pairs(self, n: int, length: int, seed: int, draw: int = 0) -> Pairs:
        """Draw *n* latent vectors and a sequence of *length* tokens from each.

        Row r is a function of (seed, draw, r), up to rounding; z does not depend on *length*.

        Args:
            seed: any whole number
            draw: number of the sample: those of one seed are independent of each other
        """
        if n < 1 or length < 1:
            raise ValueError(f"`n` and `length` must be at least 1 but are {n} and {length}.")
        draws, rows = Draws(seed, draw), torch.arange(n)
        z, keys = draws.noise_and_keys(Stream.LATENT_ORACLE, Stream.LATENT_ORACLE_TOKENS, rows, LATENT_DIM)
        return Pairs(z, sample(self, z, keys, max_len=length).tokens)

    def sample(self, n: int, length: int, seed: int, draw: int = 0) -> Tensor:
        """The tokens (n, length) of :meth:`sample_pairs`."""
        return self.sample_pairs(n, length, seed, draw).tokens

    def truth(self, tokens: Tensor, lattice: Lattice | None = None) -> Truth:
        """log p(x), posterior moments and divergence of each sequence (B, T), see :func:`quadrature.integrate`."""
        self.language.check_tokens(tokens)
        return integrate(self.log_probs, tokens, lattice or Lattice())

    def nll(self, tokens: Tensor) -> Tensor:
        """Negative log-likelihood -log p(x) / T of each sequence (B, T), nats per token, (B,) float32."""
        return (-self.truth(tokens).log_likelihood / tokens.size(1)).float()
