"""Buffers that a model of half precision keeps in float32."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

_HALF = (torch.float16, torch.bfloat16)
Self = TypeVar("Self", bound="ExactBuffers")


class ExactBuffers(nn.Module):
    """A module whose buffers stay what they are where ``half()`` and the like convert a model; its parameters do not.

    What is added up over a training, or drawn from afterwards, needs the digits that half precision lacks.
    """

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], *more: Any) -> Self:
        exact = dict(self._buffers)
        super()._apply(fn, *more)
        for name, former in exact.items():
            moved = self._buffers[name]
            if former is not None and moved is not None and moved.dtype in _HALF:
                self._buffers[name] = former.to(moved.device)
        return self
