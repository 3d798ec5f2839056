"""Augmentation of training data: sequences of pitches, transposed by random intervals."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CHROMATIC = tuple(range(12))


@dataclass(frozen=True)
class Transposition:
    """What every interval makes of every token.

    Attributes:
        table: (S, V) int64, the token that interval number S makes of token V, or -1 where there is none
        unison: number of the interval 0
    """

    table: Tensor
    unison: int

    @classmethod
    def of_pitches(
        cls,
        pitches: Mapping[int, int],
        vocab_size: int,
        low: int,
        high: int,
        obstacles: Collection[int] = (),
        scale: Sequence[int] = CHROMATIC,
    ) -> "Transposition":
        """The intervals between the pitches *low* and *high*.

        A pitch beside the scale stays as far above the next one in the scale below it.

        Args:
            pitches: pitch of each token that has one, in semitones; the others stay as they are
            vocab_size: V, number of tokens
            low: lowest pitch of a transposed sequence
            high: its highest pitch
            obstacles: tokens whose sequences are never transposed
            scale: pitch classes in whose steps intervals are counted, rising, the first of them 0

        Raises:
            ValueError: *low* is above *high*
        """
        if low > high:
            raise ValueError(f"`low` must not be above `high` ({high}) but is {low}.")
        token_of = {pitch: token for token, pitch in pitches.items() if low <= pitch <= high}
        span = _degree(high, scale)[0] - _degree(low, scale)[0]
        table = torch.arange(vocab_size).repeat(2 * span + 1, 1)
        for row, interval in enumerate(range(-span, span + 1)):
            for token, pitch in pitches.items():
                # A pitch outside the range does not come back into it: its sequence stays as it is.
                table[row, token] = token_of.get(_moved(pitch, interval, scale), -1) if low <= pitch <= high else -1
        table[:, list(obstacles)] = -1
        return cls(table, span)

    def to(self, device: torch.device) -> "Transposition":
        """The same with its table on *device*."""
        return self if self.table.device == device else Transposition(self.table.to(device), self.unison)

    def draw(self, tokens: Tensor, uniforms: Tensor) -> Tensor:
        """Numbers of intervals, (B,), each uniform among those that every token of its sequence allows.

        A sequence that allows none, not even the interval 0, gets :attr:`unison`.

        Args:
            tokens: (B, T)
            uniforms: (B,), uniform in [0, 1)
        """
        occurs = torch.zeros(len(tokens), self.table.size(1), device=tokens.device).scatter_(1, tokens, 1.0)  # (B, V)
        allowed = occurs @ (self.table < 0).float().t() == 0  # (B, S)
        count = allowed.sum(dim=1)
        rank = torch.minimum((uniforms * count).long(), (count - 1).clamp(min=0))
        # As many intervals precede the allowed one of this rank (from 0) as have at most so many allowed up to them.
        chosen = (allowed.cumsum(dim=1) <= rank.unsqueeze(1)).sum(dim=1)
        return torch.where(count > 0, chosen, torch.full_like(chosen, self.unison))

    def apply(self, tokens: Tensor, intervals: Tensor) -> Tensor:
        """*tokens* (B, T) transposed by the intervals (B,) of :meth:`draw`."""
        transposed = self.table[intervals.unsqueeze(1), tokens]
        return torch.where(transposed < 0, tokens, transposed)


def _degree(pitch: int, scale: Sequence[int]) -> tuple[int, int]:
    """Number of the highest pitch of *scale* that is not above *pitch*, and the semitones between them."""
    octave, pitch_class = divmod(pitch, 12)
    place = sum(known <= pitch_class for known in scale) - 1
    return octave * len(scale) + place, pitch_class - scale[place]


def _moved(pitch: int, steps: int, scale: Sequence[int]) -> int:
    """*pitch* moved by *steps* of *scale*."""
    degree, above = _degree(pitch, scale)
    octave, place = divmod(degree + steps, len(scale))
    return 12 * octave + scale[place] + above
