"""The major scale, and how far pitches keep to one."""

from collections.abc import Iterable

# Semitones above the tonic, or the white keys as pitch classes. A natural minor scale has the pitches of a major one.
MAJOR = (0, 2, 4, 5, 7, 9, 11)


def most_in_one_scale(pitches: Iterable[int]) -> int:
    """How many of *pitches* (MIDI) are in the major scale that has most of them."""
    classes = [pitch % 12 for pitch in pitches]
    return max(sum((pitch - tonic) % 12 in MAJOR for pitch in classes) for tonic in range(12))
