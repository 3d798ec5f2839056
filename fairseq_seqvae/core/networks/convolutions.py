"""Sequences to one vector by strided convolutions, and back by transposed ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_seqvae.core.networks.batch_moments import ChannelNorm

WIDTH, STRIDE = 4, 2


class ConvolutionalSummary(nn.Module):
    """Embedded sequences (B, T, D) of at most N positions to features (B, ``output_dim``).

    Args:
        input_dim: D
        channels: of the layers, each of which halves the number of positions
        positions: N, a multiple of 2 ** len(channels)
    """

    def __init__(self, input_dim: int, channels: list[int], positions: int):
        super().__init__()
        self.positions = positions
        sizes = [input_dim, *channels]
        self.layers = nn.ModuleList(
            nn.Conv1d(before, after, WIDTH, STRIDE, padding=1) for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.norms = nn.ModuleList(ChannelNorm(size) for size in channels)
        self.output_dim = channels[-1] * (positions // STRIDE ** len(channels))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Features of *x* (B, T, D) of *lengths* (B,).

        Raises:
            ValueError: T is above N.
        """
        if x.size(1) > self.positions:
            raise ValueError(
                f"a sequence has {x.size(1)} tokens, but the convolutions are made for at most {self.positions}."
            )
        inside = torch.arange(x.size(1), device=x.device) < lengths.unsqueeze(1)
        x = F.pad(x * inside.unsqueeze(2), (0, 0, 0, self.positions - x.size(1))).transpose(1, 2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.gelu(norm(layer(x), by_batch=self.training))
        return x.flatten(1)


class Unrolling(nn.Module):
    """A vector (B, Z) to features (B, N, D) of N positions.

    Args:
        input_dim: Z
        channels: of the layers, each of which doubles the number of positions; D is the last of them
        positions: N, a multiple of 2 ** len(channels)
    """

    def __init__(self, input_dim: int, channels: list[int], positions: int):
        super().__init__()
        self.positions = positions
        self.width = positions // STRIDE ** len(channels)
        self.first = nn.Linear(input_dim, channels[0] * self.width)
        sizes = [*channels, channels[-1]]
        self.layers = nn.ModuleList(
            nn.ConvTranspose1d(before, after, WIDTH, STRIDE, padding=1)
            for before, after in zip(sizes, sizes[1:], strict=False)
        )
        self.norms = nn.ModuleList(ChannelNorm(size) for size in sizes[1:])

    def forward(self, z: Tensor, by_batch: bool = False) -> Tensor:
        """Features (B, N, D) of *z* (B, Z).

        Args:
            by_batch: normalise by the statistics of the batch, as only a loss on data may; what acts, and what is
                scored as it acted, must not depend on the other rows
        """
        x: Tensor = F.gelu(self.first(z)).view(len(z), -1, self.width)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.gelu(norm(layer(x), by_batch))
        return x.transpose(1, 2)
