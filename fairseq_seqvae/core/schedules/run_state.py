"""Numbers that a run has found and that its checkpoints must hold, so that it continues exactly."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class RunState:
    """Named tuples of float64 numbers, written to and read from the tensors of a model.

    In a checkpoint they are the bits of the numbers as integers, under a name that ends in "version": so neither half
    precision nor a moving average of the parameters changes them.
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, ...]] = {}
        self._makers: dict[str, Callable[[], tuple[float, ...]]] = {}

    def get(self, name: str) -> tuple[float, ...] | None:
        """The numbers called *name*, or None where the run has not found any yet."""
        return self._values.get(name)

    def set(self, name: str, values: tuple[float, ...]) -> None:
        """Keep *values* under *name*."""
        self._values[name] = tuple(map(float, values))

    def keep(self, name: str, make: Callable[[], tuple[float, ...]]) -> None:
        """Save under *name* what *make* returns at that time: of many numbers that change in every update."""
        self._makers[name] = make

    def keeps(self, name: str) -> bool:
        """Whether :meth:`keep` was called for *name* since numbers were loaded."""
        return name in self._makers

    def save(self, destination: dict[str, Tensor], prefix: str) -> None:
        """Put all numbers into *destination*, each name with *prefix*."""
        made = {name: tuple(map(float, make())) for name, make in self._makers.items()}
        for name, values in (self._values | made).items():
            destination[f"{prefix}{name}_version"] = torch.tensor(values, dtype=torch.float64).view(torch.int64)

    def load(self, state: Mapping[str, Tensor], prefix: str) -> None:
        """Take the numbers that :meth:`save` wrote, and forget all others and who makes some."""
        self._makers = {}
        self._values = {
            key[len(prefix) : -len("_version")]: tuple(bits.cpu().view(torch.float64).tolist())
            for key, bits in state.items()
        }
