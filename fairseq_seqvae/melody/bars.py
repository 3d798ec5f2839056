"""Where the bars of written music lie, although the first may be a pickup and others may not add up."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple


class Measure(NamedTuple):
    """What stands between two bar lines: its length in quarter notes, and the meter in force."""

    length: Fraction
    meter: tuple[int, int]


class Bars(NamedTuple):
    """Measures laid out in time; all times in quarter notes.

    starts:     of each measure
    meters:     (start, beats, unit): bars are counted from each entry, up to the next one
    irregular:  how many measures made the counting begin again, for they did not add up to whole bars
    length:     up to the end of the last measure
    """

    starts: list[Fraction]
    meters: list[tuple[Fraction, int, int]]
    irregular: int
    length: Fraction


def lay_out(measures: Sequence[Measure]) -> Bars:
    """Lay measures out one after another, in the order they are played in.

    A first measure that is too short is a pickup: silence before it completes the bar. Later, a measure that is too
    short is completed by the next one, as at a repeat of music with a pickup; if the two are more than a bar, the bars
    are counted afresh from the second. So they are after a measure that is too long.
    """
    current = measures[0].meter
    bar = _quarters(current)
    lead = bar - measures[0].length if len(measures) > 1 and measures[0].length < bar else Fraction(0)
    meters, starts, irregular = [(Fraction(0), *current)], [], 0
    now = within = lead
    for measure in measures:
        changes = measure.meter != current
        if changes or (within and within + measure.length > bar):
            irregular += within > 0
            current, within = measure.meter, Fraction(0)
            bar = _quarters(current)
            if now > 0:
                meters.append((now, *current))
            else:
                meters = [(now, *current)]
        starts.append(now)
        now += measure.length
        within += measure.length
        if within % bar == 0:
            within = Fraction(0)
        elif within > bar:
            within = bar  # whatever follows, it begins a bar
    return Bars(starts, meters, irregular, now)


def _quarters(meter: tuple[int, int]) -> Fraction:
    return Fraction(4 * meter[0], meter[1])
