"""Which symbols of a dictionary are notes, if it is one of melodies."""

from typing import Any

import torch
from torch import Tensor

# Those of `fairseq_seqvae.melody.tokens`: hold, off, and the MIDI pitches of a piano.
_HOLD, _OFF, _PITCHES = "_", ".", frozenset(map(str, range(21, 109)))
# fairseq-preprocess fills up the size of a dictionary with symbols that begin like this.
_FILLING = "madeupword"


def note_tokens(dictionary: Any) -> Tensor | None:
    """Which tokens are onsets of notes, (V,) bool; None if the *dictionary* is not that of melodies.

    Args:
        dictionary: fairseq's; that of melodies holds the hold ``_``, at least one pitch, and nothing else but the off
            ``.`` and further pitches
    """
    symbols = dictionary.symbols
    own = {symbol for symbol in symbols[dictionary.nspecial :] if not symbol.startswith(_FILLING)}
    if _HOLD not in own or own.isdisjoint(_PITCHES) or own - _PITCHES - {_HOLD, _OFF}:
        return None
    return torch.tensor([symbol in _PITCHES for symbol in symbols])
