"""Rules of melody (after Jaques et al. 2017, "Sequence Tutor"), exact, from pitch and time alone.

Samples are melodies in the token format of :mod:`fairseq_seqvae.melody.tokens`. Each rule gives 1 to a melody that
fulfils it and less the farther it is from that; a melody without notes gets 0.
"""

import re
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from fairseq_seqvae.rewards.registry import Rule, Run, register_reward, whole_number, without_argument

if TYPE_CHECKING:
    from fairseq_seqvae.melody.tokens import Note

# Semitones above the tonic; not from the room of melodies, which only trainings on melodies import.
MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
FIFTH, TWELFTH = 7, 19
BAR = 16  # steps of a bar in 4/4, four to a quarter note
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

Key = tuple[int, tuple[int, ...]]  # pitch class of the tonic, scale above it
KEYS: tuple[Key, ...] = tuple((tonic, scale) for scale in (MAJOR, MINOR) for tonic in range(12))


def parse_key(text: str) -> Key:
    """The key that *text* names: ``C``, ``F#``, ``Bb``, with ``m`` for minor; ValueError for another text."""
    found = re.fullmatch(r"([A-G])([#b]?)(m?)", text)
    if not found:
        raise ValueError(f"{text!r} is no key: give one such as C, F#, Bb or Am, or omit it.")
    shift = {"": 0, "#": 1, "b": -1}[found[2]]
    return (_LETTERS[found[1]] + shift) % 12, MINOR if found[3] else MAJOR


def notes_of(sample: str) -> list["Note"]:
    """The notes of a melody; a symbol that is not of the format is a hold."""
    from fairseq_seqvae.melody.tokens import HOLD, TOKEN_OF, decode_notes  # only trainings on melodies need them

    return decode_notes([TOKEN_OF.get(symbol, HOLD) for symbol in sample.split()])


def melody_rule(score: Callable[[list["Note"]], float]) -> Rule:
    """A rule that gives *score* of the notes of each sample, and 0 to one without notes."""

    def rule(samples: list[str], **kwargs: Any) -> list[float]:
        return [score(notes) if (notes := notes_of(sample)) else 0.0 for sample in samples]

    return rule


def in_key(notes: Sequence["Note"], key: Key) -> int:
    """How many of the notes are in the scale of *key*."""
    return sum((note.pitch - key[0]) % 12 in key[1] for note in notes)


@register_reward("melody-key")
def stays_in_key(argument: str, run: Run) -> Rule:
    """Share of the notes that are in the key *argument*; without one, in the key that has most of them."""
    keys = (parse_key(argument),) if argument else KEYS
    return melody_rule(lambda notes: max(in_key(notes, key) for key in keys) / len(notes))


@register_reward("melody-tonic")
def begins_and_ends_on_the_tonic(argument: str, run: Run) -> Rule:
    """Half a point each if the first and if the last note is the tonic of the key *argument*, in any octave.

    Without a key, those come into question that have most of the notes, and the best of them counts.
    """
    given = (parse_key(argument),) if argument else None

    def score(notes: list["Note"]) -> float:
        most = max(in_key(notes, key) for key in KEYS)
        keys = given or [key for key in KEYS if in_key(notes, key) == most]
        return max(sum(note.pitch % 12 == tonic for note in (notes[0], notes[-1])) / 2 for tonic, _ in keys)

    return melody_rule(score)


@register_reward("melody-repeats")
def seldom_repeats_a_note(argument: str, run: Run) -> Rule:
    """Share of the notes that are not the fifth or a later one in a row of the same pitch; *argument*: instead of 4."""
    most = whole_number("melody-repeats", argument, 4)

    def score(notes: list["Note"]) -> float:
        excess, run_length, previous = 0, 0, None
        for note in notes:
            run_length = run_length + 1 if note.pitch == previous else 1
            excess += run_length > most
            previous = note.pitch
        return 1 - excess / len(notes)

    return melody_rule(score)


@register_reward("melody-leaps")
def resolves_leaps(argument: str, run: Run) -> Rule:
    """Share of the leaps of more than a fifth after which the melody turns back; 1 without such leaps.

    The next note of another pitch must lie in the other direction. A leap to the last pitch is not resolved.
    """
    without_argument("melody-leaps", argument)

    def score(notes: list["Note"]) -> float:
        pitches = [note.pitch for note in notes]
        steps = [b - a for a, b in zip(pitches, pitches[1:], strict=False) if a != b]
        leaps = [(step, after) for step, after in zip_longest(steps, steps[1:], fillvalue=0) if abs(step) > FIFTH]
        return sum(step * after < 0 for step, after in leaps) / len(leaps) if leaps else 1.0

    return melody_rule(score)


@register_reward("melody-motif")
def brings_a_motif_back(argument: str, run: Run) -> Rule:
    """Share of the notes that belong to a motif which comes back.

    A motif is so many notes in a row, 4 unless *argument* says another number, with at least three different pitches.
    It comes back if the same pitches occur again in the same rhythm of onsets, without a note in common.
    """
    size = whole_number("melody-motif", argument, 4)

    def score(notes: list["Note"]) -> float:
        places: dict[tuple, list[int]] = {}
        for i in range(len(notes) - size + 1):
            motif = tuple((note.pitch, note.start - notes[i].start) for note in notes[i : i + size])
            if len({pitch for pitch, _ in motif}) >= min(3, size):
                places.setdefault(motif, []).append(i)
        returning = [i for found in places.values() for i in found if any(abs(i - j) >= size for j in found)]
        return len({i + k for i in returning for k in range(size)}) / len(notes)

    return melody_rule(score)


@register_reward("melody-range")
def keeps_a_range(argument: str, run: Run) -> Rule:
    """1 if highest and lowest pitch are at most a twelfth apart, or *argument* semitones, else 1 / (1 + excess)."""
    most = whole_number("melody-range", argument, TWELFTH)

    def score(notes: list["Note"]) -> float:
        pitches = [note.pitch for note in notes]
        return 1 / (1 + max(max(pitches) - min(pitches) - most, 0))

    return melody_rule(score)
