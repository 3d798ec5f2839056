"""What can be asked of the studio: each operation takes the JSON of a request and gives that of the answer.

docs/studio.md describes the requests. A *point* is a melody to be: `{"seed": 7}` (drawn), `{"notes": [...]}` (encoded)
or `{"z": [...]}`, each with `"sliders"` if wanted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.melody.studio import wire
from fairseq_seqvae.melody.studio.attributes import ATTRIBUTES, in_key
from fairseq_seqvae.melody.studio.model import StudioModel, transposed
from fairseq_seqvae.melody.studio.sliding import slide
from fairseq_seqvae.melody.studio.worker import Worker
from fairseq_seqvae.melody.tokens import Note

MOST_TUNES = 64  # of one answer
MOST_CELLS = 15  # of a side of the grid
LONGEST_CONTINUATION = 32  # bars
TRIES = 4  # draws, of which one is taken


class Service:
    """The operations on a list of models, one for each meter.

    Args:
        workers: name of a model -> who has it; the first is taken where a request names none
    """

    def __init__(self, workers: dict[str, Worker]):
        self._workers = workers
        self.operations: dict[str, Callable[[Any], dict[str, Any]]] = {
            "decode": self.decode,
            "grid": self.grid,
            "blend": self.blend,
            "variations": self.variations,
            "continue": self.continuation,
        }

    def models(self) -> dict[str, Any]:
        """All models; those that are still being opened have `"ready": false` and no more."""
        return {"models": [self._describe(name, worker) for name, worker in self._workers.items()]}

    @staticmethod
    def _describe(name: str, worker: Worker) -> dict[str, Any]:
        future = worker.model
        if not future.done():
            return {"name": name, "ready": False}
        if future.exception() is not None:
            return {"name": name, "ready": False, "error": str(future.exception())}
        model = future.result()
        return {
            "name": name,
            "ready": True,
            "meter": model.shape.meter,
            "bars": model.shape.bars,
            "steps_per_bar": model.shape.steps_per_bar,
            "steps_per_quarter": model.shape.steps_per_quarter,
            "dim": model.dim,
            "sliders": [
                {"name": a.name, "label": a.label, "low": a.low, "high": a.high}
                for a in ATTRIBUTES
                if a.name in model.sliders
            ],
            "tunes": model.collection,
            "card": model.card,
        }

    def shape(self, body: Any) -> Any:
        """The shape of the melodies of the model that a request names."""
        return self._ready(self._worker(body)).shape

    def _worker(self, body: Any) -> Worker:
        name = body.get("model") if isinstance(body, dict) else None
        if name is None:
            return next(iter(self._workers.values()))
        if not isinstance(name, str) or name not in self._workers:
            raise ValueError(f"there is no model {wire.text(name, 'model')!r}: choose of {', '.join(self._workers)}")
        return self._workers[name]

    @staticmethod
    def _ready(worker: Worker) -> StudioModel:
        """The model, waited for."""
        return worker.call(lambda model: model)

    def decode(self, body: Any) -> dict[str, Any]:
        """`points` -> `tunes`, and `z` of each."""
        fields = wire.known_fields(body, "model", "points")
        worker = self._worker(body)
        points = wire.listed(fields.get("points"), "points", 1, MOST_TUNES)
        drawn = _drawn(worker, points)
        places = worker.call(lambda model: [_place(model, point, drawn) for point in points])
        z = torch.cat([place.z for place in places])
        melodies = zip(worker.decode(z), places, strict=True)
        tunes = [transposed(melody, -place.shift) for melody, place in melodies]
        return _tunes(tunes) | {"z": [wire.rounded(row) for row in z.tolist()]}

    def grid(self, body: Any) -> dict[str, Any]:
        """`corners` (upper left, upper right, lower left, lower right), `rows`, `columns` -> `tunes`, row by row.

        With a model of one key, all are in the key of the first corner that is given as notes. `corners` of the answer
        are the melodies given, in that key, and null for others.
        """
        fields = wire.known_fields(body, "model", "corners", "rows", "columns")
        worker = self._worker(body)
        rows = wire.whole_number(fields.get("rows", 7), "rows", 2, MOST_CELLS)
        columns = wire.whole_number(fields.get("columns", 7), "columns", 2, MOST_CELLS)
        corners = wire.listed(fields.get("corners"), "corners", 4, 4)
        drawn = _drawn(worker, corners)

        def between(model: StudioModel) -> tuple[list[_Place], Tensor]:
            places = [_place(model, corner, drawn) for corner in corners]
            return places, between_corners(model, [place.z for place in places], rows, columns)

        places, z = worker.call(between)
        key = next((place.shift for place in places if place.notes), 0)
        given = [place.notes and wire.as_lists(transposed(place.notes, place.shift - key)) for place in places]
        return _tunes([transposed(melody, -key) for melody in worker.decode(z)]) | {"corners": given}

    def blend(self, body: Any) -> dict[str, Any]:
        """`from`, `to`, `steps` -> `tunes`, all in the key of `from`, and `shift`: semitones by which `to` was moved.

        Ends that are given as notes stand there as they are, though the model may give them back a little differently.
        """
        fields = wire.known_fields(body, "model", "from", "to", "steps")
        worker = self._worker(body)
        steps = wire.whole_number(fields.get("steps", 7), "steps", 2, MOST_TUNES)
        if "from" not in fields or "to" not in fields:
            raise ValueError("a blend needs the fields `from` and `to`")
        drawn = _drawn(worker, [fields["from"], fields["to"]])

        def way(model: StudioModel) -> tuple[_Place, _Place, Tensor]:
            start, end = _place(model, fields["from"], drawn), _place(model, fields["to"], drawn)
            weight = torch.linspace(0, 1, steps)
            return start, end, model.walk(start.z.expand(steps, -1), end.z.expand(steps, -1), weight)

        start, end, z = worker.call(way)
        tunes = [transposed(melody, -start.shift) for melody in worker.decode(z)]
        shift = end.shift - start.shift
        for place, cell, moved in ((start, 0, 0), (end, -1, shift)):
            if place.notes and not place.slid:
                tunes[cell] = transposed(place.notes, moved)
        return _tunes(tunes) | {"shift": shift if end.notes else 0}

    def variations(self, body: Any) -> dict[str, Any]:
        """`point`, `count`, `distance`, `temperature`, `seed` -> `tunes`.

        Each is decoded from a vector that is *distance* (0 to 1) of the way to a draw from the prior; above a
        temperature of 0 each of its steps is drawn, too.
        """
        fields = wire.known_fields(body, "model", "point", "count", "distance", "temperature", "seed")
        worker, point = self._worker(body), fields.get("point")
        count = wire.whole_number(fields.get("count", 6), "count", 1, MOST_TUNES)
        distance = wire.number(fields.get("distance", 0.3), "distance", 0, 1)
        temperature = wire.number(fields.get("temperature", 0), "temperature", 0, 2)
        seed = wire.whole_number(fields.get("seed", 1), "seed", 0, wire.LARGEST_SEED)
        drawn = _drawn(worker, [point])

        def around(model: StudioModel) -> list[list[Note]]:
            place = _place(model, point, drawn)
            start = place.z.expand(count, -1)
            ends = torch.cat([model.draw((seed + number) % 2**32) for number in range(count)])
            z = model.walk(start, ends, torch.full((count,), distance))
            return [transposed(m, -place.shift) for m in model.decode(z, **_sampling(temperature, seed))]

        return _tunes(worker.call(around))

    def continuation(self, body: Any) -> dict[str, Any]:
        """`notes`, `bars`, `count`, `temperature`, `seed` -> `tunes`: the new bars alone.

        The model knows melodies of one length. So the second half of what there is becomes the first half of a melody,
        and the model decodes its other half: again and again, until there are enough bars.
        """
        fields = wire.known_fields(body, "model", "notes", "bars", "count", "temperature", "seed")
        worker = self._worker(body)
        shape = self._ready(worker).shape
        given = wire.notes(fields.get("notes"), shape.steps)
        bars = wire.whole_number(fields.get("bars", shape.bars), "bars", 1, LONGEST_CONTINUATION)
        count = wire.whole_number(fields.get("count", 3), "count", 1, MOST_TUNES)
        temperature = wire.number(fields.get("temperature", 0.7), "temperature", 0, 2)
        seed = wire.whole_number(fields.get("seed", 1), "seed", 0, wire.LARGEST_SEED)
        tunes = worker.call(lambda model: continued(model, given, bars, count, (temperature, seed)))
        return _tunes(tunes) | {"bars": bars}


def _tunes(melodies: Sequence[Sequence[Note]]) -> dict[str, Any]:
    return {"tunes": [wire.as_lists(melody) for melody in melodies]}


def _sampling(temperature: float, seed: int) -> dict[str, Any]:
    return {"temperature": temperature, "seed": seed} if temperature > 0 else {}


class _Place(NamedTuple):
    """A point: its vector (1, Z); its notes, if it was given as notes, and by how much they moved to be encoded."""

    z: Tensor
    notes: list[Note] | None = None
    shift: int = 0
    slid: bool = False  # whether sliders have moved the vector away from the notes


def _drawn(worker: Worker, points: Sequence[Any]) -> dict[int, Tensor]:
    """The vector (1, Z) of each seed among *points*, as :func:`draw_in_key` has it.

    Their draws are decoded together, and together with those of other requests.
    """
    found = [point["seed"] for point in points if isinstance(point, dict) and "seed" in point]
    seeds = sorted({wire.whole_number(seed, "seed", 0, wire.LARGEST_SEED) for seed in found})
    if not seeds:
        return {}
    model = worker.call(lambda model: model)
    z = worker.call(lambda model: torch.cat([model.draw(seed, TRIES) for seed in seeds]))
    melodies = worker.decode(z)
    parts = zip(seeds, z.split(TRIES), strict=True)
    return {seed: most_in_key(model, part, melodies[n * TRIES :]) for n, (seed, part) in enumerate(parts)}


def _place(model: StudioModel, point: Any, drawn: Mapping[int, Tensor]) -> _Place:
    fields = wire.known_fields(point, "seed", "notes", "z", "sliders")
    kinds = fields.keys() & {"seed", "notes", "z"}
    if len(kinds) != 1:
        raise ValueError(f"a point has one of the fields seed, notes and z, but this one has {len(kinds)} of them")
    if "seed" in fields:
        place = _Place(drawn[fields["seed"]])
    elif "notes" in fields:
        notes = wire.notes(fields["notes"], model.shape.steps)
        shift = model.shift_of(notes)
        place = _Place(model.encode([transposed(notes, shift)]), notes, shift)
    else:
        place = _Place(torch.tensor([wire.vector(fields["z"], model.dim)]))
    values = wire.sliders(fields.get("sliders", {}), list(model.sliders))
    return place._replace(z=slide(model, place.z, values), slid=any(values.values()))


def draw_in_key(model: StudioModel, seed: int) -> Tensor:
    """Of `TRIES` draws the one, (1, Z), whose melody stays in a key best: draws leave it more often than tunes do."""
    z = model.draw(seed, TRIES)
    return most_in_key(model, z, model.decode(z))


def most_in_key(model: StudioModel, z: Tensor, melodies: Sequence[Sequence[Note]]) -> Tensor:
    """The row (1, Z) of *z* whose melody stays in a key best."""
    found = [in_key(model.shape.melody(notes)) if notes else -1.0 for notes in melodies[: len(z)]]
    best = max(range(len(z)), key=found.__getitem__)
    return z[best : best + 1]


def between_corners(model: StudioModel, corners: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """Points (rows * columns, Z), row by row, of a grid whose corners are given, each (1, Z).

    Each row is a walk between the points of the same height on the walks down the left and the right side.
    """
    down = torch.linspace(0, 1, rows)
    left = model.walk(corners[0].expand(rows, -1), corners[2].expand(rows, -1), down)
    right = model.walk(corners[1].expand(rows, -1), corners[3].expand(rows, -1), down)
    across = torch.linspace(0, 1, columns).repeat(rows)
    return model.walk(left.repeat_interleave(columns, dim=0), right.repeat_interleave(columns, dim=0), across)


def continued(
    model: StudioModel, given: Sequence[Note], bars: int, count: int, draws: tuple[float, int]
) -> list[list[Note]]:
    """*count* continuations of a melody, *bars* bars each, the given one not among them.

    Args:
        draws: temperature and seed
    """
    temperature, seed = draws
    shape, shift = model.shape, model.shift_of(given)
    given = transposed(given, shift)
    half = shape.bars // 2 * shape.steps_per_bar or shape.steps // 2
    found = []
    for number in range(count):
        known, length, rounds = list(given), shape.steps, 0
        while length < shape.steps + bars * shape.steps_per_bar:
            last = _cut(known, length - half, length)
            first = _cut(known, length - shape.steps, length - half)
            # What the second half will be is not known; z is that of the halves the other way round.
            z = model.encode([[*last, *_moved(first, half)]]) if last or first else model.draw(seed)
            away = model.draw((seed + 1000 * number + rounds) % 2**32)
            z = model.walk(z, away, torch.full((1,), 0.25 * min(1.0, temperature)))
            options = _sampling(temperature, (seed + 1000 * number + rounds) % 2**32)
            melody = model.decode(z, last, half, **options)[0]
            known += _moved(_cut(melody, half, shape.steps), length)
            length += shape.steps - half
            rounds += 1
        added = _cut(known, shape.steps, shape.steps + bars * shape.steps_per_bar)
        found.append(transposed(added, -shift))
    return found


def _moved(melody: Sequence[Note], by: int) -> list[Note]:
    return [Note(note.pitch, note.start + by, note.length) for note in melody]


def _cut(melody: Sequence[Note], start: int, end: int) -> list[Note]:
    """What begins from *start* to before *end*, counted from *start*; a note that sounds on is cut at the end."""
    inside = [note for note in melody if start <= note.start < end]
    return [Note(note.pitch, note.start - start, min(note.end, end) - note.start) for note in inside]
