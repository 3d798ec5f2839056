"""Starting a new run with parameters of another model, or with vectors of words.

Parameters are taken by name and shape, so that encoders and decoders of other kinds take what they have in common.
What is taken, and what starts afresh, is logged.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fairseq.data import Dictionary
from torch import Tensor, nn

from fairseq_seqvae.models import lstm_lm
from fairseq_seqvae.models.dictionaries import SameSymbols, dictionary_digest, is_filler, read_dictionary
from fairseq_seqvae.options import flag as flag_of
from fairseq_seqvae.support import checkpoints
from fairseq_seqvae.support.processes import is_master
from fairseq_seqvae.support.vectors import read_vectors

logger = logging.getLogger(__name__)

EMBEDDING = "embedding.weight"
# Parameters with one row for each symbol.
_BY_SYMBOL = (EMBEDDING, "output.weight", "output.bias", "output_bias")
# What log lines call parameters, by the beginning of their names; "{n}" is the number of layers.
_TITLES = {
    "embedding.": "embeddings",
    "layers.": "{n} LSTM layers",
    "lstm.": "{n} LSTM layers",
    "initial_state.weight": "the map from z to the initial state",
    "initial_state.bias": "the initial state at z = 0",
    "output": "output",
    "to_embedding.": "output",
    "mean.": "mean of q(z|x)",
    "raw_std.": "standard deviation of q(z|x)",
}


class Size(NamedTuple):
    """A size that two models must share.

    Attributes:
        option: that says it
        parameter: whose dimension *dim* it is; or, where *dim* is None, the name of each layer's with "{}" in it
        dim: see there
    """

    option: str
    parameter: str
    dim: int | None


@dataclass(frozen=True)
class Part:
    """What of a model is taken.

    Attributes:
        name: "encoder" or "decoder"
        layers: names of the first weight of each layer, with "{}" in place of its number
        sizes: that must fit
    """

    name: str
    layers: str
    sizes: tuple[Size, ...]


ENCODER = Part(
    "encoder",
    "lstm.forward_layers.{}.weight_ih_l0",
    (
        Size("embed_dim", EMBEDDING, 1),
        Size("encoder_layers", "lstm.forward_layers.{}.weight_ih_l0", None),
        Size("encoder_hidden_dim", "lstm.forward_layers.0.weight_hh_l0", 1),
        Size("latent_dim", "mean.weight", 0),
    ),
)
DECODER = Part(
    "decoder",
    "layers.{}.weight_ih_l0",
    (
        Size("embed_dim", EMBEDDING, 1),
        Size("decoder_layers", "layers.{}.weight_ih_l0", None),
        Size("decoder_hidden_dim", "layers.0.weight_hh_l0", 1),
    ),
)


def warm_start(cfg: Any, encoder: nn.Module, decoder: nn.Module, restored: str | None = None) -> None:
    """Let *encoder* and *decoder* begin as the options ``init_*`` of the model say.

    No random number is drawn, and what is not taken keeps its values.

    Args:
        restored: checkpoint that will replace all parameters, so that nothing has to be read; or None

    Raises:
        ValueError: a file is missing or of another kind, or its sizes do not fit; the message names the flag
    """
    given = [name for name in ("init_decoder", "init_encoder", "init_embeddings") if getattr(cfg, name, None)]
    if given and restored:
        _log(f"{', '.join(map(flag_of, given))}: not read, since the run continues from {restored}")
        return
    if "init_embeddings" in given:
        _take_vectors(cfg, encoder, decoder)
    shared = encoder.embedding is decoder.embedding
    if "init_encoder" in given:
        _take_part(cfg, ENCODER, encoder, " (the decoder shares them)" if shared else "")
    if "init_decoder" in given:
        before = encoder.get_parameter(EMBEDDING).detach().clone()
        _take_part(cfg, DECODER, decoder, " (the encoder shares them)" if shared else "")
        after = encoder.get_parameter(EMBEDDING)
        if "init_encoder" in given and not torch.equal(before, after):
            raise ValueError(
                f"--init-encoder {cfg.init_encoder} and --init-decoder {cfg.init_decoder} bring different embeddings, "
                "but encoder and decoder share theirs: add --no-share-embeddings."
            )


def _log(text: str) -> None:
    if is_master():
        logger.info(text)


# -- vectors --


def _take_vectors(cfg: Any, encoder: nn.Module, decoder: nn.Module) -> None:
    dictionary: Dictionary = decoder.dictionary
    place = f"--init-embeddings {cfg.init_embeddings}"
    # The vector of padding stays 0; <s> and fillers are in no sentence.
    unused = (dictionary.pad(), dictionary.bos())
    numbers = {s: n for n, s in enumerate(dictionary.symbols) if n not in unused and not is_filler(s)}
    vectors = read_vectors(cfg.init_embeddings, cfg.embed_dim, numbers, "--init-embeddings", "--embed-dim")
    if not vectors.found:
        raise ValueError(
            f"{place} has no symbol of the dictionary ({', '.join(dictionary.symbols[dictionary.nspecial :][:3])}, "
            "...): give vectors of symbols as they stand in dict.txt, in the same case and in the same subwords."
        )
    rows = [numbers[symbol] for symbol in vectors.found]
    values = torch.tensor(list(vectors.found.values()))
    with torch.no_grad():
        for part in (encoder, decoder):
            weight = part.get_parameter(EMBEDDING)
            weight[rows] = values.to(weight.dtype)
    _log(
        f"{place}: taken: embeddings of {len(rows)} of {len(numbers)} symbols, the others start afresh; lines of the "
        f"file that are not used: {vectors.others}"
    )


# -- checkpoints --


def _take_part(cfg: Any, part: Part, module: nn.Module, about_embeddings: str) -> None:
    """Read the checkpoint of a flag and take what fits; the log says *about_embeddings* where these are taken."""
    option = f"init_{part.name}"
    place = f"{flag_of(option)} {getattr(cfg, option)}"
    dictionary: Any = module.dictionary
    try:
        state = _read(getattr(cfg, option))
        given = _parameters(state, part)
        own = module.state_dict()
        _check_sizes(part, given, own)
        _check_residual(cfg, state, part, given)
        symbols = _symbols(cfg, state["model"], len(given[EMBEDDING]), dictionary)
        given = _fit_output(given, own)
        if symbols is not None:
            matched = SameSymbols.by_name(dictionary.symbols, symbols)
            for name in set(_BY_SYMBOL) & set(given) & set(own):
                given[name] = matched.rows(own[name], given[name])
        given, partly = _fit_latent(given, own)
        taken = _copy(given, own)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    fresh = [*_titles(name for name in own if name not in taken and own[name].numel()), *partly]
    unused = _titles(name for name in given if name not in own)
    titles = [title + (about_embeddings if title == _TITLES["embedding."] else "") for title in _titles(taken)]
    lines = [f"taken: {', '.join(titles)}"]
    lines += [f"starts afresh: {', '.join(fresh)}"] if fresh else []
    lines += [f"not used: {', '.join(unused)}"] if unused else []
    if symbols is not None:
        lines += [f"{len(matched.own)} of {len(dictionary)} symbols were found by name"]
    elif "dictionary_version" not in state["model"]:
        lines += ["symbols were matched by their number, since the checkpoint does not know them"]
    _log(f"{place}: {'; '.join(lines)}")


def _read(path: str) -> dict[str, Any]:
    if not Path(path).exists():
        raise ValueError(
            "there is no such file; give a checkpoint, or omit the flag to start afresh (a run that continues does not "
            "read it)."
        )
    return checkpoints.load(path)


def _parameters(state: dict[str, Any], part: Part) -> dict[str, Tensor]:
    """The parameters of a part, under our names."""
    model = state["model"]
    if part is DECODER and lstm_lm.is_lstm_lm(model):
        return lstm_lm.decoder_parameters(model)
    if not checkpoints.is_seqvae(model):
        foreign = " or of fairseq's lstm_lm" if part is DECODER else ""
        raise ValueError(f"it holds another model: give a checkpoint of --arch seqvae{foreign}.")
    prefix = f"{part.name}."
    given = {name[len(prefix) :]: value for name, value in model.items() if name.startswith(prefix)}
    if part is ENCODER and set(given) == {EMBEDDING}:
        raise ValueError("it holds a language model (--latent-dim 0), which has no encoder: give another checkpoint.")
    return given


def _option_of(state: dict[str, Any], name: str) -> Any:
    """An option of the model in a checkpoint, or None."""
    options = state.get("args") or (state.get("cfg") or {}).get("model")
    return options.get(name) if isinstance(options, dict) else getattr(options, name, None)


def _layers(parameters: Iterable[str], pattern: str) -> int:
    names, number = set(parameters), 0
    while pattern.format(number) in names:
        number += 1
    return number


def _check_sizes(part: Part, given: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    for size in part.sizes:
        if size.dim is None:
            theirs, ours = _layers(given, size.parameter), _layers(own, size.parameter)
        elif size.parameter in given and size.parameter in own:
            theirs, ours = given[size.parameter].size(size.dim), own[size.parameter].size(size.dim)
        else:
            continue
        if theirs != ours and theirs and ours:
            name = flag_of(size.option)
            raise ValueError(f"it needs {name} {theirs}, but {name} is {ours}.")


def _check_residual(cfg: Any, state: dict[str, Any], part: Part, given: dict[str, Tensor]) -> None:
    """Parameters of several layers say nothing of whether their outputs were added up."""
    option = f"{part.name}_residual"
    if _layers(given, part.layers) < 2 or not hasattr(cfg, option):
        return
    if lstm_lm.is_lstm_lm(state["model"]) and _option_of(state, "residuals"):
        raise ValueError(
            "it was trained with --residuals, by which fairseq adds states of the token before: train it without."
        )
    theirs, ours = bool(_option_of(state, option)), bool(getattr(cfg, option))
    if theirs != ours:
        verb, habit = ("add", "with") if theirs else ("omit", "without")
        raise ValueError(f"it was trained {habit} {flag_of(option)}: {verb} this flag.")


def _symbols(cfg: Any, model: dict[str, Tensor], size: int, dictionary: Dictionary) -> list[str] | None:
    """The symbols of a checkpoint's *size* embeddings; None: those of *dictionary*."""
    known = model.get("dictionary_version")
    if known is not None and int(known) == dictionary_digest(dictionary):
        return None
    path = getattr(cfg, "init_dictionary", None)
    if not path:
        if known is None and size == len(dictionary):
            return None
        raise ValueError(
            f"it was trained with another dictionary, of {size} symbols; that of the data folder has "
            f"{len(dictionary)}: give the dict.txt that it was trained with by --init-dictionary, so that symbols are "
            "matched by name."
        )
    other = read_dictionary(path, "--init-dictionary")
    if len(other) != size or (known is not None and int(known) != dictionary_digest(other)):
        raise ValueError(
            f"it was trained with a dictionary of {size} symbols, but --init-dictionary {path} is another one, of "
            f"{len(other)}: give the dict.txt of the data that it was trained on."
        )
    return None if other.symbols == dictionary.symbols else other.symbols


def _fit_output(given: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make an output matrix out of embeddings that serve as one, where ours is separate; the reverse cannot be done."""
    if "output_bias" in own and "output.weight" in given:
        raise ValueError(
            "it has an output matrix besides its embeddings, and --share-output-embed has none: omit this flag."
        )
    if "output.weight" not in own or "output_bias" not in given:
        return given
    given = dict(given)
    weight = given[EMBEDDING].double()
    if "to_embedding.weight" in given:
        weight = weight @ given.pop("to_embedding.weight").double()
    bias = given.pop("output_bias")
    return {**given, "output.weight": weight.float(), "output.bias": bias}


def _fit_latent(given: dict[str, Tensor], own: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Fit what depends on the size of z, and say what of that starts afresh.

    The decoder's first layer reads the embedding and then what the decoder adds, z by --latent-input. Where the two
    models add different sizes, the columns of the embedding are taken and the others stay fresh. With z = 0 the decoder
    is then exactly the other one. Columns of 0 would make it so for every z, but nothing would flow through them to the
    encoder, and a decoder that can already do without z would have still less reason to begin to use it. The same holds
    for the map from z to the initial state, which stays fresh where Z differs.
    """
    given, partly = dict(given), []
    first, state = "layers.0.weight_ih_l0", "initial_state.weight"
    if first in given and first in own and given[first].shape != own[first].shape:
        columns = own[EMBEDDING].size(1)
        fitted = own[first].detach().clone()
        fitted[:, :columns] = given[first][:, :columns].to(fitted.dtype)
        given[first] = fitted
        if fitted.size(1) > columns:
            partly.append("what the first layer reads besides the embedding (z)")
    if state in given and state in own and given[state].shape != own[state].shape:
        del given[state]
    return given, partly


@torch.no_grad()
def _copy(given: dict[str, Tensor], own: dict[str, Tensor]) -> list[str]:
    """Copy what both have into *own*; its names."""
    taken = [name for name in own if name in given and own[name].numel()]
    for name in taken:
        if given[name].shape != own[name].shape:
            raise ValueError(
                f"its {name} is of size {tuple(given[name].shape)}, but here it is {tuple(own[name].shape)}: give the "
                "sizes that it was trained with."
            )
    for name in taken:
        own[name].copy_(given[name])
    return taken


def _titles(names: Iterable[str]) -> list[str]:
    """What log lines call these parameters, in their order, each once."""
    names = list(names)
    number = max(_layers(names, part.layers) for part in (ENCODER, DECODER))
    titles: dict[str, None] = {}
    for name in names:
        title = next((t for start, t in _TITLES.items() if name.startswith(start)), name.split(".")[0])
        titles[title.format(n=number) if number != 1 else title.replace("{n} LSTM layers", "1 LSTM layer")] = None
    return list(titles)
