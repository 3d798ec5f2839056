"""What can be counted of melodies without any model: scales, intervals, bars that come back.

A melody is a row of pitches, int64, one per grid step: the MIDI pitch where a note begins, otherwise a negative number
that tells what stands there instead (hold, off, padding).
"""

import numpy as np

from fairseq_seqvae.melody.scales import MAJOR
from fairseq_seqvae.melody.tokens import MAX_PITCH

_IN_SCALE = np.array([[(pitch - tonic) % 12 in MAJOR for pitch in range(12)] for tonic in range(12)])
LARGEST_INTERVAL = MAX_PITCH


def in_one_scale(pitches: np.ndarray) -> np.ndarray:
    """Which melodies have notes, all of them of one major or natural minor scale: (B,) bool, for *pitches* (B, T)."""
    has_note = pitches >= 0
    fits = _IN_SCALE[:, pitches % 12] | ~has_note  # (12, B, T)
    return fits.all(axis=2).any(axis=0) & has_note.any(axis=1)


def intervals(pitches: np.ndarray) -> np.ndarray:
    """Semitones from each note to the next one of its melody, upwards positive, of all melodies together: (N,)."""
    rows, steps = np.nonzero(pitches >= 0)
    found = np.diff(pitches[rows, steps])
    return found[rows[1:] == rows[:-1]]


def interval_counts(pitches: np.ndarray) -> np.ndarray:
    """How often each interval occurs, from the largest downwards to the largest upwards: (2 * 108 + 1,)."""
    return np.bincount(intervals(pitches) + LARGEST_INTERVAL, minlength=2 * LARGEST_INTERVAL + 1)


def a_bar_returns(pitches: np.ndarray, steps: int) -> np.ndarray:
    """In which melodies two bars that have a note are the same: (B,) bool, for *pitches* (B, T).

    Args:
        pitches: the first bar begins at the first step; what is left after the last whole bar does not count
        steps: of a bar
    """
    bars = pitches[:, : pitches.shape[1] // steps * steps].reshape(len(pitches), -1, steps)
    has_note = (bars >= 0).any(axis=2)
    found = np.zeros(len(pitches), dtype=bool)
    for later in range(1, bars.shape[1]):
        for earlier in range(later):
            same = (bars[:, later] == bars[:, earlier]).all(axis=1)
            found |= same & has_note[:, later]
    return found


def from_first_note(pitches: np.ndarray) -> np.ndarray:
    """The melodies transposed so that each begins with the pitch 0; a melody without notes stays as it is.

    Steps without a note keep numbers that no transposed note has.
    """
    has_note = pitches >= 0
    first = np.take_along_axis(pitches, has_note.argmax(axis=1)[:, None], axis=1)
    return np.where(has_note, pitches - first, pitches - 2 * MAX_PITCH)
