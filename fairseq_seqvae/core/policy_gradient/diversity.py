"""A diversity filter: a sequence that has been seen too often earns nothing, so that a policy has to find others.

Blaschke et al. 2020, "Memory-assisted reinforcement learning for diverse molecular de novo design"; here whole
sequences are compared.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from fairseq_seqvae.core.sequences import sequence_codes


def sequence_numbers(tokens: Tensor, padding_mask: Tensor) -> Tensor:
    """A number below 2^52 for each sequence, (B,) int64: equal for equal ones, and by chance for one pair in 2^52.

    Args:
        tokens: (B, T)
        padding_mask: (B, T), True = padding
    """
    return sequence_codes(tokens, padding_mask) & ((1 << 52) - 1)


class SeenSequences:
    """How often sequences have been seen.

    Args:
        limit: from that many times on a sequence earns nothing
        capacity: sequences that are remembered; those not seen for the longest time are forgotten first
    """

    def __init__(self, limit: int, capacity: int):
        self.limit, self.capacity = limit, capacity
        self._counts: dict[int, int] = {}

    def too_often(self, numbers: Tensor) -> Tensor:
        """Whether each of the sequences *numbers* (B,) has been seen as often as the limit, (B,) bool."""
        known = [self._counts.get(number, 0) >= self.limit for number in numbers.tolist()]
        return torch.tensor(known, dtype=torch.bool, device=numbers.device)

    def add(self, numbers: Iterable[int]) -> None:
        """Count sequences once more."""
        for number in numbers:
            self._counts[number] = self._counts.pop(number, 0) + 1  # the last one is the latest
        while len(self._counts) > self.capacity:
            del self._counts[next(iter(self._counts))]

    def numbers(self) -> tuple[float, ...]:
        """All that is known, for a checkpoint: sequence, count, sequence, count, ..."""
        return tuple(float(number) for pair in self._counts.items() for number in pair)

    def restore(self, numbers: tuple[float, ...]) -> None:
        """Take what :meth:`numbers` gave."""
        self._counts = dict(zip(map(int, numbers[::2]), map(int, numbers[1::2]), strict=True))


def without_reward(rewards: Tensor, positions: Tensor, rows: Tensor) -> Tensor:
    """Rewards (B, T) of which those of *rows* (B,) bool are the least of the batch, and at most 0.

    A reward may have any sign, so 0 alone could be a prize.

    Args:
        rewards: (B, T)
        positions: (B, T) bool, where they are
        rows: (B,) bool
    """
    least = rewards.masked_fill(~positions, torch.inf).amin().clamp(max=0.0)
    return torch.where(rows.unsqueeze(1) & positions, least, rewards)
