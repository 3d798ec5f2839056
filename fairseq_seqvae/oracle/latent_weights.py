"""The arrays of an oracle with a latent: those of an oracle, and a net from z to its state and its inputs."""

from dataclasses import dataclass

import numpy as np

from fairseq_seqvae.oracle import weights as arrays

LATENT_DIM = 2

# The net, drawn in this order and before the arrays of the LSTM: f = tanh(z z_to_net + net_bias), the first states are
# h = tanh(f net_to_h) and c = f net_to_c, and f net_to_x is added to the embedding of each token that is read.
NET = ("z_to_net", "net_bias", "net_to_h", "net_to_c", "net_to_x")


@dataclass(frozen=True)
class LatentSizes:
    """Sizes of an oracle with a latent, and the spread of its random weights.

    Attributes:
        vocab_size: V
        embed_dim: E, of the embedding of a token and of what z adds to it
        hidden_dim: H, of the LSTM
        net_dim: M, hidden units of the net that z goes through
        net: standard deviation of the weights of that net
        inside: standard deviation of the weights of the gates
        embedding: standard deviation of the embeddings
        output: standard deviation of the output matrix; its bias has 1
    """

    vocab_size: int = 1000
    embed_dim: int = 8
    hidden_dim: int = 8
    net_dim: int = 16
    net: float = 3.0
    inside: float = 0.3
    embedding: float = 0.5
    output: float = 2.5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "embed_dim", "hidden_dim", "net_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1 but is {getattr(self, name)}.")
        for name in ("net", "inside", "embedding", "output"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` is a standard deviation and must not be negative: {getattr(self, name)}.")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array, in the order in which they are drawn."""
        units, hidden = self.net_dim, self.hidden_dim
        net = ((LATENT_DIM, units), (units,), (units, hidden), (units, hidden), (units, self.embed_dim))
        return dict(zip(NET, net, strict=True)) | arrays.shapes(self.vocab_size, self.embed_dim, hidden)

    def spread(self, name: str) -> float:
        """Standard deviation of the array *name*."""
        if name in NET[:2]:
            return 0.5
        if name in NET:
            return self.net / self.net_dim**0.5
        return {"embedding": self.embedding, "Wo": self.output, "bo": 1.0}.get(name, self.inside)


def draw_latent_weights(seed: int, sizes: LatentSizes) -> arrays.Weights:
    """Normal float32 weights: the first draws of ``numpy.random.RandomState(seed)``, times the spread of each array."""
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be a whole number from 0 to 2^32 - 1 but is {seed!r}.")
    random = np.random.RandomState(seed)
    return {
        name: (random.normal(0, 1, shape) * sizes.spread(name)).astype(np.float32)
        for name, shape in sizes.shapes().items()
    }
