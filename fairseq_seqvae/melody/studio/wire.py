"""The values that a request may hold, checked: what is wrong is said in a sentence, with the value."""

import math
from collections.abc import Sequence
from typing import Any

from fairseq_seqvae.melody.tokens import MAX_PITCH, MIN_PITCH, Note, encode_notes

LARGEST_SEED = 2**32 - 1
_SHOWN = 60  # characters of a value that a message repeats


class BusyError(RuntimeError):
    """Too much is asked for at once, or it takes too long."""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def known_fields(body: Any, *names: str) -> dict[str, Any]:
    """*body*, if it is an object that has no fields but *names*."""
    if not isinstance(body, dict):
        raise ValueError(f"expected an object with the fields {', '.join(names)} but found {_show(body)}")
    if unknown := sorted(body.keys() - set(names)):
        raise ValueError(f"there is no field {_show(unknown[0])} here: the fields are {', '.join(names)}")
    return body


def whole_number(value: Any, name: str, least: int, most: int) -> int:
    """*value*, if it is a whole number from *least* to *most*."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"`{name}` must be a whole number from {least} to {most} but is {_show(value)}")
    return value


def number(value: Any, name: str, least: float, most: float) -> float:
    """*value*, if it is a number from *least* to *most*."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"`{name}` must be a number from {least:g} to {most:g} but is {_show(value)}")
    return float(value)


def listed(value: Any, name: str, least: int, most: int) -> list[Any]:
    """*value*, if it is a list of *least* to *most* items."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        found = f"a list of {len(value)}" if isinstance(value, list) else _show(value)
        raise ValueError(f"`{name}` must be a list of {least} to {most} items but is {found}")
    return value


def notes(value: Any, steps: int, name: str = "notes") -> list[Note]:
    """The notes of a melody of *steps* steps: `[[pitch, start, length], ...]`, at least one, without overlap."""
    found = []
    for item in listed(value, name, 1, steps):
        parts = listed(item, f"a note of {name}", 3, 3)
        pitch = whole_number(parts[0], "pitch", MIN_PITCH, MAX_PITCH)
        found.append(Note(pitch, whole_number(parts[1], "start", 0, steps), whole_number(parts[2], "length", 1, steps)))
    encode_notes(found, steps)  # checks their order and their ends
    return found


def vector(value: Any, dim: int) -> list[float]:
    """A latent vector: *dim* finite numbers."""
    return [number(item, "z", -1000, 1000) for item in listed(value, "z", dim, dim)]


def sliders(value: Any, names: Sequence[str]) -> dict[str, float]:
    """Standard deviations by attribute, -4 to 4 each."""
    if not isinstance(value, dict):
        raise ValueError(f"`sliders` must be an object with numbers for {', '.join(names)} but is {_show(value)}")
    if unknown := sorted(value.keys() - set(names)):
        raise ValueError(f"there is no slider {_show(unknown[0])}: this model has {', '.join(names) or 'none'}")
    return {name: number(item, f"sliders.{name}", -4, 4) for name, item in value.items()}


def text(value: Any, name: str, longest: int = 200) -> str:
    """A line of text; control characters become blanks."""
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"`{name}` must be a text of at most {longest} characters but is {_show(value)}")
    return "".join(char if char.isprintable() else " " for char in value).strip()


def as_lists(melody: Sequence[Note]) -> list[list[int]]:
    """Notes as they are sent: `[[pitch, start, length], ...]`."""
    return [list(note) for note in melody]


def rounded(values: Sequence[float]) -> list[float]:
    """Numbers as they are sent: five decimals."""
    return [round(value, 5) if math.isfinite(value) else 0.0 for value in values]
