"""Random numbers that are a function of a counter, not of a generator's state.

A number is keyed by (seed, update, stream, sentence, rollout, step). So it does not depend on the size or the
order of the batch, on the device, or on which process draws it: one process with two batches an update draws
the same numbers as two processes with one batch each, and no two processes repeat each other. The idea is that
of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; the mixing function is the 64-bit
finaliser of SplitMix (Steele, Lea, Flood 2014).
"""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor


class Stream(IntEnum):
    """What a random number is for. Numbers of different streams are independent."""

    POSTERIOR = 0
    PRIOR = 1
    TRAJECTORY = 2
    FAKE_LATENT = 3
    FAKE = 4
    ROLLOUT = 5
    VALIDATION_POSTERIOR = 6
    VALIDATION_LATENT = 7
    VALIDATION_SAMPLE = 8
    WORD_DROPOUT = 9
    GENERATION = 10
    TRAJECTORY_LATENT = 11
    ORACLE = 12
    FAKE_CHOICE = 13
    IMPORTANCE = 14
    MUTUAL_INFORMATION = 15
    TRANSPOSITION = 16
    RECONSTRUCTION_PRIOR = 17
    RECONSTRUCTION_POSTERIOR = 20
    LATENT_ORACLE = 19
    LATENT_ORACLE_TOKENS = 21
    FITTED_PRIOR = 18
    SLOPE = 26
    SCHEDULED_SAMPLING = 27
    CONDITION = 28
    GENERATION_CONDITION = 29
    SELECTION = 30


def _signed(value: int) -> int:
    """The 64-bit two's complement reading of *value*, since torch has no arithmetic on unsigned integers."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical (not arithmetic) shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def row_keys(seed: int, update: int, stream: int, ids: Tensor, rollouts: Tensor | int = 0) -> Tensor:
    """Keys of R rows, (R,) int64, to be given to :func:`uniform` and :func:`normal`.

    Args:
        seed: the seed of the run
        update: number of the update
        stream: see :class:`Stream`
        ids: (R,) int64, number of the sentence in its data set
        rollouts: (R,) or one number, tells apart the rows of one sentence
    """
    key = torch.zeros_like(ids)
    for part in (seed, update, int(stream), ids, rollouts):
        if not torch.is_tensor(part):
            part = _signed(int(part))
        key = _mix((key ^ part) + _GOLDEN)
    return key


def _to_unit(bits: Tensor) -> Tensor:
    """The upper 23 bits as the middle of one of 2^23 equal cells of (0, 1): never 0 and never 1, in float32 too."""
    return (_shift(bits, 41).float() + 0.5) * 2.0**-23


def uniform(keys: Tensor, step: int) -> Tensor:
    """Uniform numbers in the open interval (0, 1), (R,) float32, for *keys* (R,) at counter *step*."""
    return _to_unit(_mix(keys + _signed(_GOLDEN * (step + 1))))


def uniforms(keys: Tensor, n: int) -> Tensor:
    """The numbers :func:`uniform` gives at steps 0 .. n-1, (R, n) float32."""
    steps = torch.arange(1, n + 1, device=keys.device) * _GOLDEN
    return _to_unit(_mix(keys.unsqueeze(1) + steps))


def normal(keys: Tensor, n: int) -> Tensor:
    """Standard normal numbers, (R, n) float32, for *keys* (R,), by the inverse distribution function.

    They are made of the same bits as the uniform numbers of these keys: use a stream for one of the two only.
    """
    steps = torch.arange(1, n + 1, device=keys.device) * _GOLDEN
    bits = _mix(keys.unsqueeze(1) + steps)
    # 52 bits in double precision: 23 bits would cut the tails at 5.3 standard deviations.
    unit = (_shift(bits, 12).double() + 0.5) * 2.0**-52
    return torch.special.ndtri(unit).float()


@dataclass(frozen=True)
class Draws:
    """All random numbers of one update.

    Attributes:
        seed: that of the run
        update: number of the update, counted from 0; 0 also for what belongs to no update
    """

    seed: int
    update: int = 0

    def keys(self, stream: Stream, ids: Tensor, rollouts: Tensor | int = 0) -> Tensor:
        """Keys (R,) of the rows *ids*, see :func:`row_keys`."""
        return row_keys(self.seed, self.update, stream, ids, rollouts)

    def normal(self, stream: Stream, ids: Tensor, size: int) -> Tensor:
        """Standard normal numbers (R, *size*) float32, for the rows *ids* (R,)."""
        return normal(self.keys(stream, ids), size)

    def uniforms(self, stream: Stream, ids: Tensor, rollouts: Tensor | int, n: int) -> Tensor:
        """Uniform numbers (R, *n*) float32 at steps 0 .. n-1, for the rows *ids* (R,)."""
        return uniforms(self.keys(stream, ids, rollouts), n)

    def noise_and_keys(
        self, noise_stream: Stream, stream: Stream, ids: Tensor, size: int, members: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Standard normal numbers (R, *size*) to draw z with, and keys (R * *members*,) for the tokens that go with it.

        The keys of one z stand together; the first of them does not depend on how many there are.
        """
        numbers = torch.arange(members, device=ids.device).repeat(len(ids))
        return self.normal(noise_stream, ids, size), self.keys(stream, ids.repeat_interleave(members), numbers)
