"""Rules on the bars of a melody that come back.

As in :mod:`fairseq_seqvae.rewards.melody`, each gives 1 to a melody that fulfils it, and 0 to one without notes.
"""

from typing import TYPE_CHECKING, Any

from fairseq_seqvae.rewards.melody import BAR, melody_rule
from fairseq_seqvae.rewards.registry import Rule, Run, register_reward, whole_number

if TYPE_CHECKING:
    from fairseq_seqvae.melody.tokens import Note

FEWEST_PITCHES = 3  # of a bar that is worth coming back


@register_reward("melody-returns")
def brings_bars_back(argument: str, run: Run) -> Rule:
    """Share of its whole bars, from the second one on, that are the same as an earlier one, rests and holds included.

    A bar of fewer than three pitches does not count as one that returns. *argument*: steps of a bar, instead of 16.
    """
    from fairseq_seqvae.melody.tokens import PITCH_OF  # only trainings on melodies need it

    steps = whole_number("melody-returns", argument, BAR)

    def score(sample: str) -> float:
        symbols = sample.split()
        bars = [tuple(symbols[i : i + steps]) for i in range(0, len(symbols) - steps + 1, steps)]
        returning = [
            bar in bars[:i] and len(PITCH_OF.keys() & set(bar)) >= FEWEST_PITCHES for i, bar in enumerate(bars) if i
        ]
        return sum(returning) / len(returning) if returning else 0.0

    def rule(samples: list[str], **kwargs: Any) -> list[float]:
        return [score(sample) for sample in samples]

    return rule


@register_reward("melody-likeness")
def resembles_earlier_bars(argument: str, run: Run) -> Rule:
    """How far its bars, from the second one on, are an earlier one: the mean of the squares of their likeness.

    The likeness of two bars is the share of the places at which one of them has a note that have the same one in both;
    of a bar the most similar earlier one counts. It is a way to ``melody-returns``, which says nothing of melodies
    without any bar that comes back. *argument*: steps of a bar, instead of 16.
    """
    steps = whole_number("melody-likeness", argument, BAR)

    def score(notes: list["Note"]) -> float:
        bars: list[dict[int, int]] = [{} for _ in range(notes[-1].start // steps + 1)]
        for note in notes:
            bars[note.start // steps][note.start % steps] = note.pitch
        likest = [max(likeness(bar, earlier) for earlier in bars[:i]) for i, bar in enumerate(bars) if i]
        return sum(found**2 for found in likest) / len(likest) if likest else 0.0

    return melody_rule(score)


def likeness(bar: dict[int, int], other: dict[int, int]) -> float:
    """Share of the places of the notes of two bars at which both have the same one; of {place: pitch}."""
    places = len(bar.keys() | other.keys())
    return len(bar.items() & other.items()) / places if places else 0.0
