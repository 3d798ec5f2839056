"""A common key: melodies moved by semitones until their notes lie on the white keys of a piano.

Melodies of one key share their scale, so a model of them need not learn it twelve times, and what lies between two of
them has a scale too. Mode is kept: a tune in A minor or D dorian lies on the white keys as one in C major does.
"""

from collections.abc import Sequence

import numpy as np

from fairseq_seqvae.melody.scales import MAJOR
from fairseq_seqvae.melody.tokens import MAX_PITCH, MIN_PITCH, decode_notes, has_notes
from fairseq_seqvae.melody.windows import Tune

_SEMITONES = sorted(range(-6, 6), key=lambda semitones: (abs(semitones), semitones))


def common_key_shift(tokens: Sequence[int] | np.ndarray) -> int:
    """Semitones, -6..5, that bring most of the sounding steps of a melody to white keys; of equals the smallest.

    Returns 0 for a melody without notes. One transposition fits a major scale; a melody of fewer notes, a pentatonic
    one for example, fits several.
    """
    steps = np.zeros(12, dtype=np.int64)
    for note in decode_notes(tokens):
        steps[note.pitch % 12] += note.length
    return max(_SEMITONES, key=lambda semitones: sum(steps[(pitch - semitones) % 12] for pitch in MAJOR))


def transposed(tokens: np.ndarray, semitones: int) -> np.ndarray:
    """The melody, uint8 (T,), moved by *semitones*, and by octaves where it would leave the range of the symbols.

    Raises:
        ValueError: its range is so wide that it fits nowhere
    """
    if not has_notes(tokens):
        return tokens
    onsets = tokens >= 2
    pitches = tokens[onsets].astype(np.int64) + MIN_PITCH - 2
    for octave in (0, -12, 12):
        low, high = pitches.min() + semitones + octave, pitches.max() + semitones + octave
        if low >= MIN_PITCH and high <= MAX_PITCH:
            moved = tokens.astype(np.int64)
            moved[onsets] += semitones + octave
            return moved.astype(np.uint8)
    raise ValueError(
        f"a melody from pitch {pitches.min()} to {pitches.max()} cannot be moved by {semitones} semitones within "
        f"{MIN_PITCH}..{MAX_PITCH}"
    )


def in_common_key(tune: Tune) -> Tune:
    """*tune* moved by :func:`common_key_shift`; its column `key` remains that of the table."""
    return tune._replace(tokens=transposed(tune.tokens, common_key_shift(tune.tokens)))
