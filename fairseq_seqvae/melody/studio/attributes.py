"""What the sliders of the studio change: properties of a melody, and the directions in the latent space along them.

Each direction changes one property and leaves the others as they are, as far as they are linear in z. (MusicVAE,
Roberts et al. 2018, takes differences of means instead, which change whatever goes along with the property.)
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fairseq_seqvae.melody.scales import most_in_one_scale
from fairseq_seqvae.melody.tokens import HOLD, MAX_PITCH, MIN_PITCH, OFF, Note, canonical, decode_notes
from fairseq_seqvae.melody.tunes import is_compound

_FEWEST = 100  # melodies that directions are measured on


class Melody(NamedTuple):
    """A melody as the properties see it: its notes, at least one; `accents` of its meter; number of bars."""

    notes: Sequence[Note]
    accents: Sequence[int]
    bars: int


def density(melody: Melody) -> float:
    """Notes per bar."""
    return len(melody.notes) / melody.bars


def pitch_range(melody: Melody) -> float:
    """Semitones from the lowest note to the highest."""
    pitches = [note.pitch for note in melody.notes]
    return float(max(pitches) - min(pitches))


def register(melody: Melody) -> float:
    """Mean pitch, in semitones."""
    return float(np.mean([note.pitch for note in melody.notes]))


def accents(meter: tuple[int, int], steps_per_bar: int) -> tuple[int, ...]:
    """How many steps the bar, its beats and their parts have, such as (12, 6, 2, 1) in 6/8 and (12, 4, 2, 1) in 3/4."""
    units = meter[0]
    beats = units // 3 if is_compound(meter) else units
    widths = [steps_per_bar]

    def split(parts: int) -> None:
        """The last width into *parts*, by twos as long as they divide it, as far as there are whole steps."""
        while parts > 1:
            by = next(factor for factor in (2, 3, parts) if parts % factor == 0)
            if widths[-1] % by:
                return
            widths.append(widths[-1] // by)
            parts //= by

    split(beats)
    split(units // beats)
    while widths[-1] % 2 == 0:
        widths.append(widths[-1] // 2)
    return tuple(widths) if widths[-1] == 1 else (*widths, 1)


def beat_weight(step: int, accents: Sequence[int]) -> int:
    """How strong a step of a bar is: 0 the bar line, -1 half (or a third) of the bar, and so on, down to a step."""
    return -next(level for level, width in enumerate(accents) if step % width == 0)


def syncopation(melody: Melody) -> float:
    """Share of the notes that begin on a weaker step than one that they sound across."""
    count = 0
    for note in melody.notes:
        own = beat_weight(note.start, melody.accents)
        count += any(beat_weight(step, melody.accents) > own for step in range(note.start + 1, note.end))
    return count / len(melody.notes)


def in_key(melody: Melody) -> float:
    """Share of the notes that belong to the one major scale that has most of them."""
    return most_in_one_scale(note.pitch for note in melody.notes) / len(melody.notes)


class Attribute(NamedTuple):
    """A property: its name in files, its name for people, the ends of its slider, and how it is measured."""

    name: str
    label: str
    low: str
    high: str
    measure: Callable[[Melody], float]


ATTRIBUTES = (
    Attribute("density", "Notes per bar", "few", "many", density),
    Attribute("range", "Range", "narrow", "wide", pitch_range),
    Attribute("register", "Register", "low", "high", register),
    Attribute("syncopation", "Syncopation", "straight", "syncopated", syncopation),
    Attribute("in_key", "Stays in key", "free", "strict", in_key),
)


def measure_all(melodies: Sequence[Melody]) -> np.ndarray:
    """The attributes (N, A) of melodies; a row of a melody without notes is NaN."""
    rows = [[a.measure(melody) if melody.notes else np.nan for a in ATTRIBUTES] for melody in melodies]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(ATTRIBUTES))


def spread_over_keys(melodies: Sequence[np.ndarray], low: int, high: int) -> list[np.ndarray]:
    """The melodies, each moved by an interval of -6 to 6 semitones, where its pitches stay within *low* to *high*.

    The intervals take turns: training data in a few keys would tie the register to the key.
    """
    moved = []
    for number, tokens in enumerate(melodies):
        by = number * 5 % 13 - 6
        pitches = [note.pitch + by for note in decode_notes(tokens)]
        fits = pitches and min(pitches) >= max(low, MIN_PITCH) and max(pitches) <= min(high, MAX_PITCH)
        onset = (tokens != HOLD) & (tokens != OFF)
        moved.append(canonical(np.where(onset, tokens + by, tokens).astype(np.uint8)) if fits else tokens)
    return moved


class Directions(NamedTuple):
    """Directions in the latent space.

    Attributes:
        vectors: (A, Z), the change of z for one standard deviation of each attribute, the others unchanged
        std: (A,), standard deviation of the attributes, in their units; 0, and no direction, if all melodies are alike
    """

    vectors: np.ndarray
    std: np.ndarray


def directions(z: np.ndarray, values: np.ndarray) -> Directions:
    """Directions of attributes *values* (N, A) among latent vectors *z* (N, Z); rows with NaN are left out.

    With weights w_a of a linear regression of each attribute on z, and S the covariance of z, the columns of
    S W (W' S W)^-1: the least change of z, measured by S, that changes one regression by 1 and no other.

    Raises:
        ValueError: fewer than 100 rows remain
    """
    whole = ~np.isnan(values).any(axis=1)
    z, values = z[whole], values[whole]
    if len(z) < _FEWEST:
        raise ValueError(f"directions need at least {_FEWEST} melodies with notes, but there are {len(z)}")
    std = values.std(axis=0)
    moving = std > 0
    centred = z - z.mean(axis=0)
    standard = (values[:, moving] - values[:, moving].mean(axis=0)) / std[moving]
    weights = np.linalg.lstsq(centred, standard, rcond=None)[0]
    toward = centred.T @ (centred @ weights) / len(z)
    vectors = np.zeros((values.shape[1], z.shape[1]))
    vectors[moving] = (toward @ np.linalg.pinv(weights.T @ toward)).T
    return Directions(vectors, std)
