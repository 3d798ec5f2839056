"""A weight of the KL term that makes the KL meet a target: feedback instead of a schedule."""

import math
from dataclasses import dataclass
from typing import NamedTuple

# Smallest weight, as a share of the largest: an integral on a logarithmic scale needs a lower end.
FLOOR = 1e-4
# First weight, as a share of the largest. A posterior begins at the prior; a high weight would keep it there.
START = 0.1
# Largest error, in powers of e: further away the weight moves no faster.
LARGEST_ERROR = 2.0
SMALLEST_KL = 1e-9  # nats, for the logarithm


class KLControl(NamedTuple):
    """State of the controller.

    Attributes:
        integral: logarithm of the weight without the proportional part
        weight: of the KL term, in the next update
    """

    integral: float
    weight: float


@dataclass(frozen=True)
class KLController:
    """A PI controller of the weight of the KL term.

    The idea is that of ControlVAE (Shao et al. 2020). There, the weight is a sigmoid of the error plus its integral,
    with gains for one scale of the KL. Here the controller acts on logarithms, ``error = log(KL / target)`` and
    ``log weight = error + integral``, so that the same gains serve targets of 2 and of 80 nats.

    Attributes:
        target: mean KL of a sequence, nats
        max_weight: largest weight
        horizon: updates in which the integral makes up for an error as the proportional part does at once
    """

    target: float
    max_weight: float
    horizon: int

    def __post_init__(self) -> None:
        for name in ("target", "max_weight", "horizon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be above 0 but is {getattr(self, name)}.")

    def start(self) -> KLControl:
        """The state before the first update."""
        weight = START * self.max_weight
        return KLControl(math.log(weight), weight)

    def step(self, state: KLControl, kl: float) -> KLControl:
        """The state after an update whose mean KL of a sequence was *kl* nats."""
        error = math.log(max(kl, SMALLEST_KL) / self.target)
        error = min(max(error, -LARGEST_ERROR), LARGEST_ERROR)
        # Within bounds, so that it need not come back from where the weight could not follow.
        integral = self._bounded(state.integral + error / self.horizon)
        return KLControl(integral, math.exp(self._bounded(integral + error)))

    def _bounded(self, log_weight: float) -> float:
        high = math.log(self.max_weight)
        return min(max(log_weight, high + math.log(FLOOR)), high)
