"""fairseq's LSTM language model (``--arch lstm_lm``) as parameters of our recurrent decoder.

Both use torch's LSTM equations and its order of gates. Three things differ. fairseq's initial state is zero; ours is a
parameter, which becomes zero. fairseq has a second linear layer before the output where its sizes differ
(``additional_fc``); two linear layers in a row are one. And the names.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

_OUTPUT = "decoder.fc_out."
_BEFORE_OUTPUT = "decoder.additional_fc."
_CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
# What only an LSTM that translates has: there, layer 0 reads the attention too.
_OF_TRANSLATION = ("encoder.", "decoder.attention.", "decoder.encoder_hidden_proj.", "decoder.encoder_cell_proj.")


def is_lstm_lm(model: Mapping[str, Tensor]) -> bool:
    """Whether these are the parameters of fairseq's LSTM language model."""
    has_cells = "decoder.embed_tokens.weight" in model and "decoder.layers.0.weight_ih" in model
    return has_cells and not any(name.startswith(_OF_TRANSLATION) for name in model)


def decoder_parameters(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of fairseq's LSTM language model under the names of our decoder, in float32.

    Raises:
        ValueError: its output is an adaptive softmax, which our decoder does not have
    """
    if any(name.startswith("decoder.adaptive_softmax.") for name in model):
        raise ValueError("it has an adaptive softmax: train it with --criterion cross_entropy instead.")
    given = {"embedding.weight": model["decoder.embed_tokens.weight"].float()}
    layers = 0
    while f"decoder.layers.{layers}.weight_ih" in model:
        for name in _CELL:
            given[f"layers.{layers}.{name}_l0"] = model[f"decoder.layers.{layers}.{name}"].float()
        layers += 1
    hidden_dim = given["layers.0.weight_hh_l0"].size(1)
    given["initial_state.bias"] = torch.zeros(2 * layers * hidden_dim)
    return {**given, **_output(model)}


def _output(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output layer, with fairseq's layer before it, if any, worked in."""
    before = None
    if f"{_BEFORE_OUTPUT}weight" in model:
        before = model[f"{_BEFORE_OUTPUT}weight"].double(), model[f"{_BEFORE_OUTPUT}bias"].double()
    if f"{_OUTPUT}weight" in model:
        weight, bias = model[f"{_OUTPUT}weight"].double(), model[f"{_OUTPUT}bias"].double()
        if before is not None:
            weight, bias = weight @ before[0], weight @ before[1] + bias
        return {"output.weight": weight.float(), "output.bias": bias.float()}
    embedding = model["decoder.embed_tokens.weight"].double()  # is the output matrix too
    if before is None:
        return {"output_bias": torch.zeros(embedding.size(0))}
    return {"to_embedding.weight": before[0].float(), "output_bias": (embedding @ before[1]).float()}
