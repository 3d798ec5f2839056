"""Whether the options and parameters of a checkpoint can be those of a SeqVAE, before a model is built of them."""

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch

from fairseq_seqvae.options import flag, options_of, whole_numbers
from fairseq_seqvae.support import checkpoints

# The longest sequence that a checkpoint may ask for, in tokens.
LONGEST = 2**20


def _neighbours(channels: Any) -> int:
    sizes = whole_numbers(channels)
    return max((a * b for a, b in zip(sizes, sizes[1:], strict=False)), default=max(sizes, default=0))


# How many numbers a model of such an option holds at least, for its value and the size of the vocabulary. A model may
# not use an option; so its default, in any preset, is always accepted.
LEAST_NUMBERS: dict[str, Callable[[Any, int], int]] = {
    "embed_dim": lambda size, vocabulary: size * vocabulary,
    "encoder_hidden_dim": lambda size, vocabulary: size * size,
    "decoder_hidden_dim": lambda size, vocabulary: size * size,
    "conductor_dim": lambda size, vocabulary: size * size,
    "encoder_layers": lambda count, vocabulary: count,
    "decoder_layers": lambda count, vocabulary: count,
    "latent_dim": lambda size, vocabulary: size,
    "label_dim": lambda size, vocabulary: size,
    "conv_channels": lambda channels, vocabulary: _neighbours(channels),
    "segment_channels": lambda channels, vocabulary: _neighbours(channels or "1"),
}
LENGTHS = ("fixed_length", "latent_positions", "segment_length")
KINDS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}


def check_saved(path: str, state: Mapping[str, Any], config: type, presets: tuple[type, ...]) -> None:
    """Refuse a checkpoint whose model cannot be built, or is of no use.

    Args:
        path: of the file, for messages
        state: its content
        config: dataclass of the model's options
        presets: dataclasses with other defaults

    Raises:
        ValueError: an option is of the wrong kind, or larger than the parameters in the file allow; a parameter is not
            finite, or no tensor
    """
    parameters, options = state["model"], state["cfg"].model
    if not isinstance(parameters, Mapping) or not checkpoints.is_seqvae(parameters):
        raise ValueError("the checkpoint holds another model than a SeqVAE: give one of --arch seqvae.")
    for name, value in parameters.items():
        if not torch.is_tensor(value):
            raise ValueError(f"{path} is no checkpoint of a SeqVAE: its parameter {name} is no tensor.")
        if name.startswith(checkpoints.TRAINING_ONLY):  # is not built
            continue
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"{path} holds a broken model: its parameter {name} is NaN or infinite, since its training had broken "
                "down. Give an earlier checkpoint."
            )
    _check_kinds(path, options, config)
    _check_sizes(path, options, parameters, presets)
    task_state = state.get("task_state") or {}
    longest = task_state.get("longest", 0) if isinstance(task_state, Mapping) else task_state
    if not isinstance(longest, int) or not 0 <= longest <= LONGEST:
        raise ValueError(_impossible(path, "its longest sequence", longest, f"at most {LONGEST} tokens"))


def _impossible(path: str, what: str, value: Any, bound: str) -> str:
    return f"{path} is damaged, or no checkpoint of a SeqVAE: {what} is {str(value)[:60]}, where {bound} can be."


def _check_kinds(path: str, options: Any, config: type) -> None:
    for current, _ in options_of(config):
        value = getattr(options, current.name, current.default)
        wanted: Any = get_args(current.type)[0] if get_args(current.type) else current.type
        if wanted not in KINDS or value is None:
            continue
        if not isinstance(value, KINDS[wanted]) or (isinstance(value, bool) and wanted is not bool):
            raise ValueError(
                _impossible(path, flag(current.name), repr(value), f"only a value of type {wanted.__name__}")
            )


def _check_sizes(path: str, options: Any, parameters: Mapping[str, Any], presets: tuple[type, ...]) -> None:
    numbers = sum(value.numel() for value in parameters.values())
    embedding = parameters.get("decoder.embedding.weight", parameters.get("encoder.embedding.weight"))
    vocabulary = 1 if embedding is None else len(embedding)
    for name, least in LEAST_NUMBERS.items():
        value = getattr(options, name, None)
        if value is None or value in [preset.__dataclass_fields__[name].default for preset in presets]:  # type: ignore[attr-defined]
            continue
        if least(value, vocabulary) > numbers:
            raise ValueError(_impossible(path, flag(name), value, f"a model of only {numbers} numbers"))
    for name in LENGTHS:
        value = getattr(options, name, None) or 0
        if not isinstance(value, (int, float)) or not math.isfinite(value) or value > LONGEST:
            raise ValueError(_impossible(path, flag(name), value, f"at most {LONGEST} tokens"))
