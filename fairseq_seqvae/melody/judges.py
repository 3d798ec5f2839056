"""What melodies are like, in numbers to be laid beside those of real melodies: higher is not better.

A melody is measured by itself (`MEASURES`) and then averaged; what needs all of them is measured by `judge`.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from fairseq_seqvae.melody.copies import longest_common_runs
from fairseq_seqvae.melody.scales import most_in_one_scale
from fairseq_seqvae.melody.tokens import OFF, Note, canonical, decode_notes

_WIDEST = 13  # semitones; wider intervals are counted with those of this size
_LONGEST_BARS = 2  # longer notes are counted with those of this length


class Phrase:
    """One melody with its bars; the last may be incomplete.

    Args:
        tokens: one per step, canonical or not.
        steps_per_bar: length of a bar.
    """

    def __init__(self, tokens: Sequence[int] | np.ndarray, steps_per_bar: int) -> None:
        self.tokens = canonical(tokens)
        self.steps_per_bar = steps_per_bar

    @cached_property
    def notes(self) -> list[Note]:
        """In order; times in steps."""
        return decode_notes(self.tokens)

    @cached_property
    def bars(self) -> list[np.ndarray]:
        """The tokens of each bar."""
        return [
            self.tokens[start : start + self.steps_per_bar] for start in range(0, len(self.tokens), self.steps_per_bar)
        ]

    @cached_property
    def pitches_by_bar(self) -> list[list[int]]:
        """The pitches that begin in each bar. Their tokens differ from MIDI pitches by a constant."""
        return [[int(token) for token in bar if token > OFF] for bar in self.bars]


def empty_bars(phrase: Phrase) -> float:
    """EB, in percent: bars in which no note begins. A bar with nothing but a held note counts."""
    return 100 * _mean([not pitches for pitches in phrase.pitches_by_bar])


def used_pitches(phrase: Phrase) -> float:
    """UPC: different pitches that begin in a bar. The paper calls them classes, but its code counts octaves apart."""
    return _mean([len(set(pitches)) for pitches in phrase.pitches_by_bar])


def used_pitch_classes(phrase: Phrase) -> float:
    """UPC as the name says: different pitch classes that begin in a bar."""
    return _mean([len({pitch % 12 for pitch in pitches}) for pitches in phrase.pitches_by_bar])


def notes_per_bar(phrase: Phrase) -> float:
    """UPN: notes that begin in a bar."""
    return _mean([len(pitches) for pitches in phrase.pitches_by_bar])


def qualified_notes(phrase: Phrase, steps: int) -> float:
    """QN, in percent: notes of at least so many steps; NaN without notes (the paper's code has 0)."""
    return 100 * _mean([note.length >= steps for note in phrase.notes])


def span_per_bar(phrase: Phrase) -> float:
    """SPB, in octaves: from the lowest to the highest note that begins in a bar; 0 for a bar without any."""
    return _mean([(max(pitches) - min(pitches)) / 12 if pitches else 0 for pitches in phrase.pitches_by_bar])


def pitch_class_entropy(phrase: Phrase) -> float:
    """In bits, over the notes of the melody: 0 for one pitch class, 2.81 for seven used alike. NaN without notes."""
    counts = Counter(note.pitch % 12 for note in phrase.notes)
    total = sum(counts.values())
    return sum(-count / total * math.log2(count / total) for count in counts.values()) if total else math.nan


def scale_consistency(phrase: Phrase) -> float:
    """In percent: notes in the major scale (or its relative minor) that has most of them. NaN without notes.

    After Mogren, "C-RNN-GAN", 2016.
    """
    if not phrase.notes:
        return math.nan
    return 100 * most_in_one_scale(note.pitch for note in phrase.notes) / len(phrase.notes)


def groove_consistency(phrase: Phrase) -> float:
    """In percent: steps at which a bar and the next agree on whether a note begins. NaN for fewer than two whole bars.

    After Wu and Yang, "The Jazz Transformer on the front line", ISMIR 2020, for neighbouring bars.
    """
    onsets = [bar > OFF for bar in phrase.bars if len(bar) == phrase.steps_per_bar]
    return 100 * _mean([(one == other).mean() for one, other in zip(onsets, onsets[1:], strict=False)])


def repeated_bars(phrase: Phrase) -> float:
    """In percent: bars after the first, with a note, that are the same as an earlier one. NaN if there are none."""
    seen: set[bytes] = set()
    repeats = []
    for place, bar in enumerate(phrase.bars):
        if (bar > OFF).any():
            if place:
                repeats.append(bar.tobytes() in seen)
            seen.add(bar.tobytes())
    return 100 * _mean(repeats)


def silence(phrase: Phrase) -> float:
    """In percent: steps at which no note sounds."""
    sounding = sum(note.length for note in phrase.notes)
    return 100 * (1 - sounding / len(phrase.tokens)) if len(phrase.tokens) else math.nan


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


class Measure(NamedTuple):
    """One line of the table: a short name, the unit, what it is, and the function of one melody."""

    name: str
    unit: str
    what: str
    of: Callable[[Phrase], float]


MEASURES = [
    Measure("EB", "%", "bars in which no note begins", empty_bars),
    Measure("UPC", "", "different pitches per bar", used_pitches),
    Measure("UPC mod 12", "", "different pitch classes per bar", used_pitch_classes),
    Measure("UPN", "", "notes per bar", notes_per_bar),
    *(
        Measure(f"QN{steps}", "%", f"notes of at least {steps} steps", partial(qualified_notes, steps=steps))
        for steps in (2, 4, 6, 8)
    ),
    Measure("SPB", "oct", "span of the notes of a bar", span_per_bar),
    Measure("PCE", "bits", "entropy of the pitch classes", pitch_class_entropy),
    Measure("SC", "%", "notes in the best scale", scale_consistency),
    Measure("GC", "%", "rhythm that neighbouring bars share", groove_consistency),
    Measure("RB", "%", "bars that occurred before", repeated_bars),
    Measure("REST", "%", "steps in silence", silence),
]
SET_MEASURES = {
    "LEN": ("%", "note lengths: overlap with train"),
    "INT": ("%", "intervals: overlap with train"),
    "DIST": ("%", "melodies unlike all others here"),
    "COPY": ("%", "melodies that occur in train"),
    "RUN": ("notes", "longest run that occurs in train, mean"),
    "RUN max": ("notes", "longest run that occurs in train"),
}


@dataclass
class Verdict:
    """The figures of one set of melodies.

    count:      melodies
    values:     name of a measure -> mean (NaN if it is defined for none)
    errors:     name -> standard error of the mean, for those that are means over melodies
    spreads:    name -> standard deviation over melodies
    lengths:    note lengths in steps -> share
    intervals:  semitones up from note to note -> share
    """

    count: int
    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    spreads: dict[str, float] = field(default_factory=dict)
    lengths: dict[int, float] = field(default_factory=dict)
    intervals: dict[int, float] = field(default_factory=dict)


def judge(melodies: Sequence[np.ndarray], train: Sequence[np.ndarray], steps_per_bar: int) -> Verdict:
    """Measure melodies by themselves and against the training melodies.

    Args:
        melodies: tokens of each, uint8 (T,).
        train: the melodies they may have been copied from; the overlaps of histograms are with these.
        steps_per_bar: length of a bar.
    """
    phrases = [Phrase(tokens, steps_per_bar) for tokens in melodies]
    known = [Phrase(tokens, steps_per_bar) for tokens in train]
    verdict = Verdict(len(phrases))
    for measure in MEASURES:
        values = np.array([measure.of(phrase) for phrase in phrases], dtype=float)
        _add_mean(verdict, measure.name, values[~np.isnan(values)])
    longest = _LONGEST_BARS * steps_per_bar
    verdict.lengths, verdict.intervals = length_shares(phrases, longest), interval_shares(phrases)
    verdict.values["LEN"] = 100 * overlap(verdict.lengths, length_shares(known, longest))
    verdict.values["INT"] = 100 * overlap(verdict.intervals, interval_shares(known))
    occurs = Counter(phrase.tokens.tobytes() for phrase in phrases)
    verdict.values["DIST"] = 100 * _mean([occurs[phrase.tokens.tobytes()] == 1 for phrase in phrases])
    copied = {phrase.tokens.tobytes() for phrase in known}
    _add_mean(verdict, "COPY", np.array([100.0 * (phrase.tokens.tobytes() in copied) for phrase in phrases]))
    runs = longest_common_runs([_as_pairs(phrase) for phrase in phrases], [_as_pairs(phrase) for phrase in known])
    _add_mean(verdict, "RUN", np.array(runs, dtype=float))
    verdict.values["RUN max"] = float(max(runs, default=0))
    return verdict


def _add_mean(verdict: Verdict, name: str, values: np.ndarray) -> None:
    verdict.values[name] = _mean(values)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    verdict.spreads[name] = spread
    verdict.errors[name] = spread / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _as_pairs(phrase: Phrase) -> list[tuple[int, int]]:
    """Pitch and length of each note."""
    return [(note.pitch, note.length) for note in phrase.notes]


def length_shares(phrases: Sequence[Phrase], longest: int) -> dict[int, float]:
    """Share of the notes with each length in steps; longer ones count as `longest`."""
    return _shares(min(note.length, longest) for phrase in phrases for note in phrase.notes)


def interval_shares(phrases: Sequence[Phrase]) -> dict[int, float]:
    """Share of each interval between successive notes, in semitones, positive upwards; 13 is 13 or more."""
    return _shares(
        max(-_WIDEST, min(_WIDEST, after.pitch - before.pitch))
        for phrase in phrases
        for before, after in zip(phrase.notes, phrase.notes[1:], strict=False)
    )


def _shares(values) -> dict[int, float]:
    counts = Counter(values)
    total = sum(counts.values())
    return {value: counts[value] / total for value in sorted(counts)}


def overlap(one: dict[int, float], other: dict[int, float]) -> float:
    """What two histograms share, from 0 to 1; NaN if one is empty."""
    if not one or not other:
        return math.nan
    return sum(min(one[value], other.get(value, 0.0)) for value in one)
