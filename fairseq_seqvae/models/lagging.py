"""Copies of a part of the model: the rollout policy, which lags behind it, and the reference, which rests."""

import copy

import torch
from torch import Tensor, nn


def frozen_copy(original: nn.Module) -> nn.Module:
    """A copy of a module that never carries gradient."""
    return copy.deepcopy(original).requires_grad_(False)


@torch.no_grad()
def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and buffers of *source* into *target*, a copy of it: bit for bit, in any precision."""
    pairs = zip(source.parameters(), target.parameters(), strict=True)
    buffers = zip(source.buffers(), target.buffers(), strict=True)
    for own, kept in (*pairs, *buffers):
        kept.copy_(own)


class LaggingCopy:
    """A copy of a module that follows it at a distance and never carries gradient.

    In half precision a copy would stop as soon as its moves are smaller than the distance to the next number. So its
    parameters are kept in float32 besides, and in checkpoints too.

    Args:
        original: the module that is copied
    """

    def __init__(self, original: nn.Module):
        self.module = frozen_copy(original)
        self._exact: list[Tensor] | None = None

    @torch.no_grad()
    def follow(self, original: nn.Module, lag: float) -> None:
        """w <- lag * w + (1 - lag) * w_original, for each parameter w; lag 0 copies. Buffers are copied."""
        weights = list(self.module.parameters())
        exact = self.exact_parameters() or weights
        for weight, kept, target in zip(weights, exact, original.parameters(), strict=True):
            kept.lerp_(target.to(kept.dtype), 1.0 - lag) if lag else kept.copy_(target)
            if kept is not weight:
                weight.copy_(kept)
        for buffer, current in zip(self.module.buffers(), original.buffers(), strict=True):
            buffer.copy_(current)

    def exact_parameters(self) -> list[Tensor] | None:
        """The parameters in float32, where the module has half precision; else None."""
        weights = list(self.module.parameters())
        if not weights or weights[0].dtype not in (torch.float16, torch.bfloat16):
            return None
        if self._exact is None:
            self._exact = [p.detach().float() for p in weights]
        self._exact = [kept.to(p.device) for kept, p in zip(self._exact, weights, strict=True)]
        return self._exact

    def save_exact(self, destination: dict[str, Tensor], prefix: str) -> None:
        """Put the float32 parameters, where there are such, into *destination*, each name with *prefix*."""
        if exact := self.exact_parameters():
            for (name, _), kept in zip(self.module.named_parameters(), exact, strict=True):
                destination[f"{prefix}{name}"] = kept

    def load_exact(self, state: dict[str, Tensor], prefix: str) -> None:
        """Take the float32 parameters that :meth:`save_exact` wrote; forget the present ones if there are none."""
        self._exact = None
        if state:
            self._exact = [state[f"{prefix}{name}"].float().clone() for name, _ in self.module.named_parameters()]
