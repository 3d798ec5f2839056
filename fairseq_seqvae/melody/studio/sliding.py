"""Moving the sliders of a melody: directions in z propose changes, and the proposal that does what was asked is taken.

A direction that is right on average does little for some melodies and too much for others. So steps of several sizes
are decoded, together with steps towards draws from the prior and, for the register, with the melody transposed. The
proposal is taken whose decoded melody comes nearest to the attributes asked for, keeping the other attributes and the
notes where it can.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fairseq_seqvae.melody.studio import attributes
from fairseq_seqvae.melody.studio.model import StudioModel, transposed
from fairseq_seqvae.melody.tokens import Note

_SIZES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)  # of a step along the directions, 1 being what regression asks for
_AWAY = (0.0, 0.1, 0.2, 0.3)  # shares of the way to a draw
_DRAWS = 3
_OTHERS = 0.15  # what a squared standard deviation of an attribute that was not asked for counts
_NOTES = 0.5  # what a change of all notes counts


def slide(model: StudioModel, z: Tensor, values: dict[str, float]) -> Tensor:
    """A vector (1, Z) near *z* (1, Z) whose melody has *values* standard deviations more of the attributes named."""
    values = {name: value for name, value in values.items() if value}
    before = model.decode(z)[0] if values else []
    if not before:
        return z
    proposals = _proposals(model, z, before, values)
    costs = [_cost(model, before, melody, values) for melody in model.decode(proposals)]
    best = int(np.argmin(costs))
    return proposals[best : best + 1]


def _proposals(model: StudioModel, z: Tensor, before: Sequence[Note], values: dict[str, float]) -> Tensor:
    """Vectors (R, Z); *z* itself is the first."""
    starts = [z]
    if "register" in values:
        by = round(values["register"] * model.sliders["register"].std)
        starts.append(model.encode([transposed(before, 12 * round(by / 12) if model.common_key else by)]))
    push = sum((value * model.sliders[name].vector for name, value in values.items()), torch.zeros(model.dim))
    stepped = torch.cat([start + size * push for start in starts for size in _SIZES])
    draws = [model.draw(seed) for seed in range(1, _DRAWS + 1)]
    found = [stepped]
    for share in _AWAY[1:]:
        weight = torch.full((len(stepped),), share)
        found += [model.walk(stepped, draw.expand(len(stepped), -1), weight) for draw in draws]
    return torch.cat(found)


def _cost(model: StudioModel, before: Sequence[Note], after: Sequence[Note], values: dict[str, float]) -> float:
    """How far a melody is from what was asked for, in squared standard deviations."""
    if not after:
        return float("inf")
    cost, was, now = 0.0, model.shape.melody(before), model.shape.melody(after)
    for attribute in attributes.ATTRIBUTES:
        if attribute.name in model.sliders:
            change = (attribute.measure(now) - attribute.measure(was)) / model.sliders[attribute.name].std
            weight = 1.0 if attribute.name in values else _OTHERS
            cost += weight * (change - values.get(attribute.name, 0.0)) ** 2
    places = {(note.start, note.pitch % 12) for note in before}
    kept = sum((note.start, note.pitch % 12) in places for note in after)
    return cost + _NOTES * (1 - kept / max(len(before), len(after)))
