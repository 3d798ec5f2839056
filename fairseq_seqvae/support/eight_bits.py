"""Parameters at 8 bits per number: a row of a matrix or kernel as whole numbers and one scale.

A row is what shares the first index. Its largest number becomes 127, so that no other is off by more than 1/254 of it.
Small tensors and vectors are kept in half precision. The scale of `name` is called `name.row_scale`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".row_scale"
_LEAST = 1024  # numbers: smaller tensors gain nothing
_LARGEST = 127


def pack(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """*parameters*, those of at least 1,024 numbers and two dimensions as int8 with a scale (rows,), float32."""
    packed: dict[str, Tensor] = {}
    for name, value in unpack(parameters).items():
        if not value.is_floating_point():
            packed[name] = value
        elif value.dim() < 2 or value.numel() < _LEAST:
            packed[name] = value.half()
        else:
            rows = value.float().flatten(1)
            scale = rows.abs().amax(1) / _LARGEST
            whole = rows / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
            packed[name] = whole.round().to(torch.int8).view_as(value)
            packed[name + SCALE] = scale
    return packed


def unpack(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`pack` was given, rounded, in single precision where it was packed; anything else as it is."""
    found: dict[str, Tensor] = {}
    for name, value in parameters.items():
        if name.endswith(SCALE) and name.removesuffix(SCALE) in parameters:
            continue
        scale = parameters.get(name + SCALE)
        if scale is not None:
            value = value.float() * scale.float().view(-1, *[1] * (value.dim() - 1))
        found[name] = value
    return found
