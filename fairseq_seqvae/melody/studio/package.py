"""The folder of a model that ships: weights of 8 bits, dictionary, sliders, tunes to begin with, a card.

Meters that one model was trained on share its weights: the folder of the second has a prior of its own in their place.
"""

import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fairseq_seqvae.export.state import inference_state
from fairseq_seqvae.fit_prior import mixture
from fairseq_seqvae.fit_prior.encoding import refuse_unsuited as refuse_unsuited_prior
from fairseq_seqvae.inference import hub
from fairseq_seqvae.melody.scales import most_in_one_scale
from fairseq_seqvae.melody.studio import attributes, wire
from fairseq_seqvae.melody.studio.model import (
    CARD,
    DIRECTIONS,
    FITTED,
    PRIOR,
    TUNES,
    WEIGHTS,
    Shape,
    StudioModel,
    open_model,
    refuse_unsuited,
    shape_of,
    weights_folder,
)
from fairseq_seqvae.melody.studio.service import TRIES, between_corners, most_in_key
from fairseq_seqvae.melody.studio.sliding import slide
from fairseq_seqvae.melody.tokens import Note, canonical, decode_notes, format_line, parse_line
from fairseq_seqvae.melody.windows import dictionary_path
from fairseq_seqvae.support import checkpoints, eight_bits
from fairseq_seqvae.support.files import whole_file

LARGEST = 5_000_000  # bytes of the folder
_COMPONENTS = 10  # of the fitted prior at most,
_EACH = 1000  # melodies for each of them
_BATCH = 256
_SIDE = 7  # cells of a side of the grid that the page begins with
_SHIFT = 1.5  # standard deviations, at which the card measures what a slider does
_SLID = 20  # melodies that it measures it on
_PITCHES = (52, 90)  # into which melodies are transposed where the training did not say


class Request(NamedTuple):
    """What `studio-model` was asked for.

    checkpoint: file that fairseq-train wrote
    data:       folder of fairseq-preprocess
    out:        folder to write
    meter:      such as 4/4; None: the first that divides the length of the melodies
    tunes:      how many held-out melodies come along
    origin:     where the melodies come from, for the card
    common_key: the data are in a common key
    weights_of: name of the folder beside *out* that has the weights of this checkpoint already, for another meter
    steps_per_quarter: grid of the data; 8 for music in doubled values
    """

    checkpoint: Path
    data: Path
    out: Path
    meter: str | None = None
    tunes: int = 40
    origin: str = ""
    common_key: bool = False
    weights_of: str | None = None
    steps_per_quarter: int = 4

    @property
    def first_card(self) -> dict[str, Any]:
        """What of the card is needed to open the model; the figures come later."""
        named = {} if self.weights_of is None else {"weights_of": self.weights_of}
        return {"common_key": self.common_key, "steps_per_quarter": self.steps_per_quarter, **named}


def make(request: Request) -> dict[str, Any]:
    """Write the folder; its card.

    Raises:
        ValueError: the checkpoint or the data do not fit, or the folder would be larger than 5 MB
    """
    state = checkpoints.load(request.checkpoint)
    interface = hub.load_hub_interface(request.checkpoint.parent, request.checkpoint.name, request.data)
    refuse_unsuited(interface, request.checkpoint)
    interface.eval()
    shape = shape_of(interface.model.decoder.fixed_length, request.meter, request.steps_per_quarter)
    train = _distinct(_melodies(interface, "train"))
    held_out = _distinct(_melodies(interface, "test"))
    moved = train if request.common_key else attributes.spread_over_keys(train, *_pitches(interface))
    z = _encode(interface, moved)
    found = attributes.directions(
        z.numpy(), attributes.measure_all([shape.melody(decode_notes(tokens)) for tokens in moved])
    )
    request.out.mkdir(parents=True, exist_ok=True)
    _write_weights(state, interface, train, request)
    _write_json(request.out / DIRECTIONS, _named(found))
    _write_json(request.out / TUNES, {"tunes": [], "grid": None})
    _write_json(request.out / CARD, {"meter": shape.meter, **request.first_card})
    model = open_model(request.out)  # what ships is what is measured
    tunes = _collection(model, held_out, request.tunes)
    _write_json(request.out / TUNES, {"tunes": tunes, "grid": _first_grid(model, tunes)})
    card = _card(model, found, held_out, len(train), request)
    _write_json(request.out / CARD, card, indent=2)
    size = sum(file.stat().st_size for file in request.out.iterdir())
    if size > LARGEST:
        raise ValueError(f"{request.out} has {size / 1e6:.1f} MB, more than {LARGEST / 1e6:g}: train a smaller model")
    return card


def _melodies(interface: Any, split: str) -> list[np.ndarray]:
    """Token melodies (T,) of a split of the data."""
    task = interface.task
    task.load_dataset(split)
    dataset = task.dataset(split)
    rows = [dataset.src[int(i)].long() for i in np.flatnonzero(~dataset.empty)]
    return [parse_line(interface.tgt_dict.string(row)) for row in rows]


def _distinct(melodies: Sequence[np.ndarray]) -> list[np.ndarray]:
    kept = {tokens.tobytes(): tokens for tokens in map(canonical, melodies) if decode_notes(tokens)}
    return list(kept.values())


def _pitches(interface: Any) -> tuple[int, int]:
    transpose = getattr(interface.task.cfg, "transpose", None)
    if not transpose:
        return _PITCHES
    low, high = map(int, transpose.split(","))
    return low, high


def _encode(interface: Any, melodies: Sequence[np.ndarray]) -> Tensor:
    """Means of q(z|x), (N, Z), float64."""
    lines = [format_line(tokens) for tokens in melodies]
    parts = [interface.encode_latent(lines[i : i + _BATCH]).mean for i in range(0, len(lines), _BATCH)]
    return torch.cat(parts).double().cpu()


def _write_weights(state: dict[str, Any], interface: Any, melodies: Sequence[np.ndarray], request: Request) -> None:
    """The state at 8 bits, and the fitted prior: that of the checkpoint, or one fitted to *melodies*."""
    if not state["optimizer_history"]:
        raise ValueError(f"{request.checkpoint} is no checkpoint of fairseq-train, for it has no optimizer_history")
    small = inference_state(state)
    small["cfg"] = without_folders(small["cfg"])
    small["model"] = {name: value for name, value in small["model"].items() if not name.startswith(FITTED)}
    prior = _packed_prior(_fitted(interface, melodies, request))
    for name in (WEIGHTS, PRIOR):
        (request.out / name).unlink(missing_ok=True)
    if request.weights_of is None:
        shutil.copyfile(dictionary_path(request.data), dictionary_path(request.out))
        _save(request.out / WEIGHTS, {**small, "model": eight_bits.pack(small["model"]) | prior})
    else:
        _refuse_other_weights(small["model"], request)
        _save(request.out / PRIOR, {"model": prior})


def _packed_prior(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a prior as they ship: posteriors of exemplars at 8 bits, full covariances in half precision."""
    named = {f"{FITTED}{name}": value for name, value in state.items()}
    if state["factors"].dim() == 2:
        return eight_bits.pack(named)
    return {name: _half(value) for name, value in named.items()}


def _fitted(interface: Any, melodies: Sequence[np.ndarray], request: Request) -> dict[str, Tensor]:
    """The tensors of the prior of the checkpoint, or of one fitted to *melodies*, which those of a meter always are."""
    prior = interface.model.fitted_prior
    if prior is None or request.weights_of is not None:
        refuse_unsuited_prior(interface.model)
        points = _encode(interface, melodies).numpy()
        components = max(1, min(_COMPONENTS, len(points) // _EACH))
        prior = mixture.fit(points, components, "full", 1)
    return prior.state_dict()


def _refuse_other_weights(parameters: dict[str, Tensor], request: Request) -> None:
    """Raise a ValueError unless the folder that is to give the weights has those of the checkpoint."""
    folder = weights_folder(request.out, request.first_card)
    theirs = checkpoints.load(folder / WEIGHTS)["model"]
    for name, value in eight_bits.unpack(eight_bits.pack(parameters)).items():
        if name not in theirs or not torch.equal(theirs[name].float(), value.float()):
            raise ValueError(f"--weights-of {folder} has not the weights of {request.checkpoint}: leave the flag out")


def _save(path: Path, content: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with whole_file(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def without_folders(options: Any) -> Any:
    """*options* of a checkpoint, plain values, with absolute paths cut to their last part: they tell of a machine."""
    if isinstance(options, dict):
        return {name: without_folders(value) for name, value in options.items()}
    if isinstance(options, (list, tuple)):
        return [without_folders(value) for value in options]
    if isinstance(options, str) and any(map(os.path.isabs, options.split(os.pathsep))):
        return os.pathsep.join(Path(part).name for part in options.split(os.pathsep))
    return options


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def _named(found: attributes.Directions) -> dict[str, Any]:
    pairs = zip(attributes.ATTRIBUTES, found.vectors, found.std, strict=True)
    return {
        attribute.name: {"std": _short(std), "vector": wire.rounded(vector.tolist())}
        for attribute, vector, std in pairs
        if std > 0
    }


def _collection(model: StudioModel, melodies: Sequence[np.ndarray], count: int) -> list[dict[str, Any]]:
    """*count* of the melodies, taken evenly, those that the model gives back exactly first."""
    chosen = melodies[:: max(1, len(melodies) // max(1, 4 * count))]
    notes = [decode_notes(tokens) for tokens in chosen]
    back = model.decode(model.encode(notes))
    ordered = sorted(range(len(notes)), key=lambda i: back[i] != notes[i])[:count]
    return [{"name": f"Tune {n}", "notes": wire.as_lists(notes[i])} for n, i in enumerate(ordered, start=1)]


def _first_grid(model: StudioModel, tunes: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The grid that the page shows before the model is there: between four of the tunes."""
    if len(tunes) < 4:
        return None
    step = len(tunes) // 4
    corners = [tunes[number * step] for number in range(4)]
    z = [model.encode([wire.notes(tune["notes"], model.shape.steps)]) for tune in corners]
    cells = [wire.as_lists(cell) for cell in model.decode(between_corners(model, z, _SIDE, _SIDE))]
    # As on the page, a corner shows the melody that it was given.
    for cell, tune in zip((0, _SIDE - 1, _SIDE * (_SIDE - 1), _SIDE * _SIDE - 1), corners, strict=True):
        cells[cell] = tune["notes"]
    return {
        "corners": [{"name": tune["name"], "notes": tune["notes"]} for tune in corners],
        "rows": _SIDE,
        "columns": _SIDE,
        "tunes": cells,
    }


def _card(
    model: StudioModel, found: attributes.Directions, held_out: Sequence[np.ndarray], trained_on: int, request: Request
) -> dict[str, Any]:
    """What is known about the model, all of it measured on the folder that ships."""
    shape = model.shape
    notes = [decode_notes(tokens) for tokens in held_out]
    z = model.encode(notes)
    back = _decode(model, z)
    pairs = [(set(a), set(b)) for a, b in zip(notes, back, strict=True)]
    drawn = _decode(model, torch.cat([model.draw(seed) for seed in range(1, 201)]))
    real_values, drawn_values = _values(notes, shape), _values(drawn, shape)
    return {
        "meter": shape.meter,
        "bars": shape.bars,
        **request.first_card,
        "latent_dim": model.dim,
        "training_melodies": trained_on,
        "held_out_melodies": len(held_out),
        "reconstruction": {
            "notes": _short(sum(len(a & b) for a, b in pairs) / sum(len(a) for a, _ in pairs)),
            "melodies_as_a_whole": _short(np.mean([a == b for a, b in pairs])),
        },
        "attributes": {
            attribute.name: {
                "held_out": _short(np.nanmean(real_values[:, a])),
                "drawn": _short(np.nanmean(drawn_values[:, a])),
            }
            for a, attribute in enumerate(attributes.ATTRIBUTES)
        },
        "in_one_scale": _in_one_scale(model, notes, z, drawn),
        "sliders": _sliders(model, found, z[:_SLID]),
        "origin": request.origin,
    }


def _sliders(model: StudioModel, found: attributes.Directions, z: Tensor) -> dict[str, dict[str, float | None]]:
    """What each slider does to the melodies of *z* (N, Z), in means over them."""
    shape, sliders = model.shape, {}
    back = _values(_decode(model, z), shape)
    for a, attribute in enumerate(attributes.ATTRIBUTES):
        if attribute.name not in model.sliders:
            continue
        low, high = (
            _values(
                _decode(model, torch.cat([slide(model, row, {attribute.name: shift}) for row in z.split(1)])), shape
            )[:, a]
            for shift in (-_SHIFT, _SHIFT)
        )
        sliders[attribute.name] = {
            "std_in_training": _short(found.std[a]),
            "mean_at_0": _short(np.nanmean(back[:, a])),
            f"mean_at_minus_{_SHIFT}_std": _short(np.nanmean(low)),
            f"mean_at_plus_{_SHIFT}_std": _short(np.nanmean(high)),
        }
    return sliders


def _in_one_scale(
    model: StudioModel, held_out: Sequence[Sequence[Note]], z: Tensor, drawn: Sequence[Sequence[Note]]
) -> dict[str, float | None]:
    """Shares of melodies that lie wholly in one major scale, for held-out ones with vectors *z* (N, Z), and others."""
    tried = torch.cat([model.draw(seed, TRIES) for seed in range(1, 201)])
    parts = zip(tried.split(TRIES), _grouped(_decode(model, tried), TRIES), strict=True)
    best = _decode(model, torch.cat([most_in_key(model, rows, melodies) for rows, melodies in parts]))
    found = {"held_out": held_out, "drawn": drawn, "best_of_draws": best, "inside_grids": _inside_grids(model, z)}
    return {name: _short(_share_in_one_scale(melodies)) for name, melodies in found.items()}


def _grouped(melodies: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [melodies[start : start + size] for start in range(0, len(melodies), size)]


def _share_in_one_scale(melodies: Sequence[Sequence[Note]]) -> float:
    """Share of the melodies, those without notes left out, that lie wholly in one major scale."""
    whole = [most_in_one_scale(note.pitch for note in melody) == len(melody) for melody in melodies if melody]
    return float(np.mean(whole)) if whole else np.nan


def _inside_grids(model: StudioModel, z: Tensor) -> list[list[Note]]:
    """The melodies of 20 grids between *z* (N, Z), drawn by a seed, without the corners."""
    draw, last = np.random.default_rng(1), _SIDE * _SIDE - 1
    inside = [cell for cell in range(last) if cell not in (0, _SIDE - 1, last - _SIDE + 1)]
    grids = []
    for _ in range(20):
        corners = [z[n : n + 1] for n in draw.integers(len(z), size=4).tolist()]
        grids.append(between_corners(model, corners, _SIDE, _SIDE)[inside])
    return _decode(model, torch.cat(grids))


def _decode(model: StudioModel, z: Tensor) -> list[Any]:
    return [melody for part in z.split(_BATCH) for melody in model.decode(part)]


def _values(melodies: Iterable[Sequence[Note]], shape: Shape) -> np.ndarray:
    """Attributes (N, A) of melodies given as notes."""
    return attributes.measure_all([shape.melody(notes) for notes in melodies])


def _short(value: Any) -> float | None:
    """Rounded for a file; None, which JSON knows, for NaN, which it does not."""
    return None if np.isnan(value) else round(float(value), 4)


def _write_json(path: str | PathLike, value: Any, indent: int | None = None) -> None:
    separators = (",", ":") if indent is None else None
    with whole_file(path) as partial:
        text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
        partial.write_text(text + "\n", encoding="utf-8")
