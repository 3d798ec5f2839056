"""A model that the studio plays: notes to latent vectors and back."""

import json
import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fairseq_seqvae.inference import hub, latents
from fairseq_seqvae.melody.keys import common_key_shift
from fairseq_seqvae.melody.studio import attributes
from fairseq_seqvae.melody.tokens import (
    HOLD,
    MAX_PITCH,
    MIN_PITCH,
    SYMBOLS,
    Note,
    decode_notes,
    encode_notes,
    format_line,
    parse_line,
)
from fairseq_seqvae.melody.tunes import bar_steps
from fairseq_seqvae.melody.windows import dictionary_path
from fairseq_seqvae.support import checkpoints

WEIGHTS, CARD, DIRECTIONS, TUNES = "model.pt", "card.json", "directions.json", "tunes.json"
PRIOR = "prior.pt"  # in place of weights: those of the folder beside it that the card names, with this prior
FITTED = "fitted_prior."  # how the names of its tensors begin
# Steps per bar that a model without a card is taken to have: the first that its length is a multiple of.
_BARS = {16: "4/4", 12: "3/4", 18: "9/8"}


class Shape(NamedTuple):
    """What a model's melodies look like: meter such as "4/4", number of bars, steps per bar and per quarter note."""

    meter: str
    bars: int
    steps_per_bar: int
    steps_per_quarter: int = 4

    @property
    def steps(self) -> int:
        """T, the length of a melody."""
        return self.bars * self.steps_per_bar

    def melody(self, notes: Sequence[Note]) -> attributes.Melody:
        """*notes* as attributes measure them."""
        return attributes.Melody(notes, attributes.accents(_numbers(self.meter), self.steps_per_bar), self.bars)


def _numbers(meter: str) -> tuple[int, int]:
    beats, _, unit = meter.partition("/")
    return int(beats), int(unit)


def shape_of(steps: int, meter: str | None = None, steps_per_quarter: int = 4) -> Shape:
    """The shape of melodies of *steps* steps; without a *meter*, the first of 4/4, 3/4 and 9/8 that divides them.

    Raises:
        ValueError: no whole number of bars has so many steps, or the grid is too coarse for the meter
    """
    if meter is not None:
        width = bar_steps(_numbers(meter), steps_per_quarter)
        if steps % width:
            raise ValueError(f"melodies of {steps} steps are no whole number of bars of {meter}, which have {width}")
        return Shape(meter, steps // width, width, steps_per_quarter)
    for width, name in _BARS.items():
        if steps % width == 0:
            return Shape(name, steps // width, width)
    raise ValueError(f"melodies of {steps} steps are no whole number of bars of {', '.join(map(str, _BARS))} steps")


class Slider(NamedTuple):
    """An attribute that can be changed: its name, its direction (Z,) and size, both of one standard deviation."""

    name: str
    vector: Tensor
    std: float


class StudioModel:
    """A trained SeqVAE of melodies of one length, on the CPU.

    Args:
        interface: of the model
        shape: of its melodies
        sliders: for those that the studio offers
        collection: tunes to begin with, as in tunes.json
        card: what is known about the model
    """

    def __init__(
        self,
        interface: hub.SeqVAEHubInterface,
        shape: Shape,
        sliders: Sequence[Slider] = (),
        collection: Sequence[dict[str, Any]] = (),
        card: dict[str, Any] | None = None,
    ):
        interface.eval()
        self._interface = interface
        self.shape = shape
        self.sliders = {slider.name: slider for slider in sliders}
        self.collection = list(collection)
        self.card = card or {}
        self.common_key = bool(self.card.get("common_key"))
        self._prior = "model" if getattr(interface.model, "fitted_prior", None) is None else "fitted"

    @property
    def dim(self) -> int:
        """Z."""
        return self._interface.latent_dim

    def draw(self, seed: int, count: int = 1) -> Tensor:
        """Latent vectors (count, Z) from the prior that was fitted to the training data, or else the model's own."""
        return self._interface.sample_latent(count, seed, self._prior)

    def encode(self, melodies: Sequence[Sequence[Note]]) -> Tensor:
        """Means of q(z|x), (B, Z), of melodies that are as long as the model's."""
        lines = [format_line(encode_notes(notes, self.shape.steps)) for notes in melodies]
        return self._interface.encode_latent(lines).mean

    def decode(self, z: Tensor, prefix: Sequence[Note] = (), prefix_steps: int = 0, **options: Any) -> list[list[Note]]:
        """The melody of each z (B, Z): greedily, or drawn with *options* of `decode_latent` such as seed, temperature.

        Args:
            prefix: notes that every melody begins with
            prefix_steps: how many steps they take
        """
        if prefix_steps:
            line = format_line(encode_notes(prefix, prefix_steps))
            options["prefixes"] = [line] * len(z)
        return [decode_notes(self._tokens(line)) for line in self._interface.decode_latent(z, **options)]

    def _tokens(self, line: str) -> np.ndarray:
        """Tokens (T,); what is no symbol of melodies, such as the one for unknown symbols, is a hold."""
        tokens = parse_line(" ".join(word if word in SYMBOLS else SYMBOLS[HOLD] for word in line.split()))
        return tokens[: self.shape.steps]

    def shift_of(self, melody: Sequence[Note]) -> int:
        """Semitones that bring a melody into the key that the model knows; 0 for a model of all keys."""
        return common_key_shift(encode_notes(melody, self.shape.steps)) if self.common_key else 0

    def walk(self, start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
        """Points (B, Z) at *weight* (B,) of the way from *start* (B, Z) to *end*, as likely as the ends."""
        return latents.prior_of(self._interface.model, "model").walk(start, end, weight)


def transposed(melody: Sequence[Note], semitones: int) -> list[Note]:
    """A melody moved by *semitones*, and by octaves where it would leave the range of the symbols."""
    pitches = [note.pitch for note in melody]
    while pitches and max(pitches) + semitones > MAX_PITCH:
        semitones -= 12
    while pitches and min(pitches) + semitones < MIN_PITCH:
        semitones += 12
    return [note._replace(pitch=note.pitch + semitones) for note in melody]


def open_model(path: str | PathLike, meter: str | None = None) -> StudioModel:
    """The model of a folder that `package` made, or of a checkpoint.

    Raises:
        FileNotFoundError: there is neither
        ValueError: the checkpoint is not of this plugin, or is none of melodies of one length
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no model {path}: give a checkpoint, or a folder of studio-model, to --model")
    state = checkpoints.load(path)
    with tempfile.TemporaryDirectory() as folder:
        interface = hub.load_hub_interface(path.parent, path.name, _dictionary_folder(path, state, Path(folder)))
    refuse_unsuited(interface, path)
    return StudioModel(interface, shape_of(interface.model.decoder.fixed_length, meter))


def _open_folder(folder: Path) -> StudioModel:
    card, found, tunes = (read_json(folder, name) for name in (CARD, DIRECTIONS, TUNES))
    source = weights_folder(folder, card)
    _there(source, WEIGHTS)
    interface = hub.load_hub_interface(source, WEIGHTS, source)
    refuse_unsuited(interface, source / WEIGHTS)
    if source != folder:
        prior = checkpoints.load(_there(folder, PRIOR))["model"]
        own = {name: value for name, value in interface.model.state_dict().items() if not name.startswith(FITTED)}
        interface.model.load_state_dict(own | prior)
    known = {attribute.name for attribute in attributes.ATTRIBUTES}
    sliders = [Slider(name, torch.tensor(item["vector"]), item["std"]) for name, item in found.items() if name in known]
    shape = shape_of(interface.model.decoder.fixed_length, card["meter"], card.get("steps_per_quarter", 4))
    return StudioModel(interface, shape, sliders, tunes["tunes"], card)


def _there(folder: Path, name: str) -> Path:
    """A file of the folder of a model; a FileNotFoundError that says what to do if it is missing."""
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{folder} is no model of the studio, for it has no {name}: make one by studio-model, or give a "
            "checkpoint to --model"
        )
    return folder / name


def read_json(folder: Path, name: str) -> Any:
    """The content of a file of the folder of a model."""
    return json.loads(_there(folder, name).read_text(encoding="utf-8"))


def weights_folder(folder: Path, card: dict[str, Any]) -> Path:
    """The folder that has the weights of a model: its own, or the one beside it that its card names."""
    name = card.get("weights_of")
    if name is None:
        return folder
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{folder / CARD} has `weights_of` {name!r}: it must be the name of a folder beside {folder}")
    return folder.resolve().parent / name


def _dictionary_folder(path: Path, state: dict[str, Any], empty: Path) -> Path:
    """The folder whose dict.txt belongs to a checkpoint: its own, that of its data, or the *empty* one with our own."""
    if dictionary_path(path.parent).is_file():
        return path.parent
    data = getattr(getattr(state.get("cfg"), "task", None), "data", None) or state.get("cfg", {}).get("task", {}).get(
        "data", ""
    )
    if data and dictionary_path(data).is_file():
        return Path(data)
    write_dictionary(empty)
    return empty


def write_dictionary(folder: Path) -> None:
    """Write the dictionary of all melody symbols, filled up to the size that `fairseq-preprocess` gives it."""
    lines = [f"{symbol} 1\n" for symbol in SYMBOLS]
    dictionary_path(folder).write_text("".join(lines), encoding="ascii")


def refuse_unsuited(interface: hub.SeqVAEHubInterface, path: str | PathLike) -> None:
    """Raise a ValueError for a model that the studio cannot play."""
    if not interface.model.decoder.fixed_length:
        raise ValueError(f"{path} has melodies of any length: the studio plays models that --fixed-length trained")
    if interface.latent_dim == 0:
        raise ValueError(f"{path} has no latent vector (--latent-dim 0), so there is nothing to play with")
    if interface.model.conditions is not None:
        raise ValueError(f"{path} was trained with --labels: the studio plays models without labels")
    missing = [symbol for symbol in SYMBOLS if interface.tgt_dict.index(symbol) == interface.tgt_dict.unk()]
    if len(missing) > len(SYMBOLS) // 2:
        raise ValueError(
            f"{path} is no model of melodies: its dictionary lacks the symbols {', '.join(missing[:3])}, ..."
        )
