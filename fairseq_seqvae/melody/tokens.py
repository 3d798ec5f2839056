"""The token format of a monophonic melody: one token a grid step, a quarter note is 4 steps unless said otherwise.

| token    | symbol in a line | meaning                             |
|----------|------------------|-------------------------------------|
| 0        | `_`              | hold: nothing new                   |
| 1        | `.`              | off: the note ends, silence follows |
| 2 .. 89  | `21` .. `108`    | onset of that MIDI pitch            |

A note sounds from its onset up to the next onset or off, or to the end of the melody. Before the first note: hold.
A melody is *canonical* if an off stands only where a note is sounding, that is if no token could be replaced by a hold
without a change to be heard. `encode_notes` makes canonical melodies, and on these it is the inverse of
`decode_notes`. A window cut from a melody, or a model's sample, need not be canonical: offs in silence mean nothing.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

HOLD = 0
OFF = 1
MIN_PITCH = 21
MAX_PITCH = 108
VOCAB_SIZE = 2 + MAX_PITCH - MIN_PITCH + 1  # 90
_FIRST_ONSET = 2
MAX_STEPS = 100_000  # 3.5 hours at 120 quarter notes per minute: beyond that a file is broken

SYMBOLS = ("_", ".", *map(str, range(MIN_PITCH, MAX_PITCH + 1)))
PITCH_OF = {str(pitch): pitch for pitch in range(MIN_PITCH, MAX_PITCH + 1)}  # of each symbol that is an onset
TOKEN_OF = {symbol: token for token, symbol in enumerate(SYMBOLS)}


class Note(NamedTuple):
    """A note: MIDI pitch, start and length in steps."""

    pitch: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """The step at which the note no longer sounds."""
        return self.start + self.length


def encode_notes(notes: Iterable[Note], length: int) -> np.ndarray:
    """The canonical tokens, uint8 (T,), of a melody of T = `length` steps.

    Notes must be in order, must not overlap and must end within the melody; `ValueError` otherwise.
    """
    tokens = np.full(length, HOLD, dtype=np.uint8)
    silent_from = 0
    for note in notes:
        if not MIN_PITCH <= note.pitch <= MAX_PITCH:
            raise ValueError(f"{note} has a pitch outside {MIN_PITCH}..{MAX_PITCH}")
        if note.length < 1:
            raise ValueError(f"{note} must be at least one step long")
        if note.start < silent_from:
            raise ValueError(f"{note} begins before step {silent_from}, the end of the note before it")
        if note.end > length:
            raise ValueError(f"{note} ends at step {note.end}, after the end of the melody of {length} steps")
        tokens[note.start] = _FIRST_ONSET + note.pitch - MIN_PITCH
        # The next note overwrites this off if it follows at once; at the very end none is needed.
        if note.end < length:
            tokens[note.end] = OFF
        silent_from = note.end
    return tokens


def decode_notes(tokens: Sequence[int] | np.ndarray) -> list[Note]:
    """The notes of a melody, canonical or not, in order. Raises `ValueError` for a token outside 0..89."""
    notes: list[Note] = []
    sounding: tuple[int, int] | None = None  # pitch, start
    steps = [int(token) for token in tokens]
    for step, token in enumerate(steps):
        if not 0 <= token < VOCAB_SIZE:
            raise ValueError(f"token {token} at step {step} is outside 0..{VOCAB_SIZE - 1}")
        if token == HOLD:
            continue
        if sounding is not None:
            notes.append(Note(*sounding, step - sounding[1]))
        sounding = None if token == OFF else (token - _FIRST_ONSET + MIN_PITCH, step)
    if sounding is not None:
        notes.append(Note(*sounding, len(steps) - sounding[1]))
    return notes


def canonical(tokens: Sequence[int] | np.ndarray) -> np.ndarray:
    """The canonical melody, uint8 (T,), that sounds the same: offs in silence become holds."""
    return encode_notes(decode_notes(tokens), len(tokens))


def has_notes(tokens: np.ndarray) -> bool:
    """Whether any note begins in the tokens."""
    return bool((tokens >= _FIRST_ONSET).any())


def begins_with_note(tokens: np.ndarray) -> bool:
    """Whether a note begins at the first step."""
    return len(tokens) > 0 and int(tokens[0]) >= _FIRST_ONSET


def format_line(tokens: Sequence[int] | np.ndarray) -> str:
    """One line for `fairseq-preprocess`: a symbol per step, separated by blanks, without a line end."""
    return " ".join([SYMBOLS[token] for token in tokens])


def parse_line(line: str) -> np.ndarray:
    """The tokens, uint8 (T,), of a line of symbols. Raises `ValueError` for a symbol that is not of the format."""
    tokens = []
    for step, symbol in enumerate(line.split()):
        token = TOKEN_OF.get(symbol)
        if token is None:
            raise ValueError(
                f"symbol {symbol!r} at step {step} is none of `_` (hold), `.` (off), {MIN_PITCH}..{MAX_PITCH} (onset)"
            )
        tokens.append(token)
    return np.array(tokens, dtype=np.uint8)
