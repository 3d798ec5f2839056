"""Integrals over a latent vector of two dimensions: log p(x), the posterior's moments, its divergence from the prior.

The trapezoidal rule on a square lattice, which converges faster than any power of the step for smooth densities that
vanish at the border (Trefethen, Weideman 2014, "The exponentially convergent trapezoidal rule"). Each sequence has its
own lattice: the step is halved, near where the posterior has mass, until log p(x) settles.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

# log p(x|z) of each row: called with z (R, 2) and tokens (R, T), it gives (R,) float64.
LogProbs = Callable[[Tensor, Tensor], Tensor]

_SEQUENCES_AT_A_TIME = 128
_ROWS_AT_A_TIME = 8192


@dataclass(frozen=True)
class Lattice:
    """Where the integrand is evaluated.

    Attributes:
        step: distance of neighbours at first
        reach: largest norm of z; that of N(0, I) exceeds 6 with a probability of 1.5e-8
        cut: a place is refined if the integrand there is above its maximum times exp(-cut)
        tolerance: nats; the step of a sequence is halved until its log p(x) changes by less. Halving it once more
            would change it by about the square of that.
        halvings: how often at most
    """

    step: float = 0.5
    reach: float = 6.0
    cut: float = 12.0
    tolerance: float = 0.01
    halvings: int = 4

    def __post_init__(self) -> None:
        for name in ("step", "reach", "cut", "tolerance"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive but is {getattr(self, name)}.")
        if self.halvings < 1:
            raise ValueError(f"`halvings` must be at least 1 but is {self.halvings}: one is needed to see a change.")


class Truth(NamedTuple):
    """What is true of sequences in a model with a latent, float64.

    Attributes:
        log_likelihood: (B,), log p(x), nats per sequence
        mean: (B, 2), of the posterior p(z|x)
        covariance: (B, 2, 2)
        divergence: (B,), KL(p(z|x) || p(z)), nats; its mean over x ~ p(x) is the mutual information I(x; z)
        change: (B,), nats by which the last halving of the step changed log p(x)
        evaluations: (B,) int64, of p(x|z)
    """

    log_likelihood: Tensor
    mean: Tensor
    covariance: Tensor
    divergence: Tensor
    change: Tensor
    evaluations: Tensor


@torch.no_grad()
def integrate(log_probs: LogProbs, tokens: Tensor, lattice: Lattice) -> Truth:
    """The truth about each sequence under a decoder p(x|z) and the prior N(0, I) in two dimensions.

    Args:
        log_probs: log p(x|z), see `LogProbs`
        tokens: (B, T)

    Raises:
        ValueError: log p(x) of a sequence does not settle within the halvings of the lattice
    """
    different, which = tokens.unique(dim=0, return_inverse=True)
    parts = [_integrate_some(log_probs, some, lattice) for some in different.split(_SEQUENCES_AT_A_TIME)]
    return Truth(*(torch.cat(part)[which] for part in zip(*parts, strict=True)))


def _integrate_some(log_probs: LogProbs, tokens: Tensor, lattice: Lattice) -> Truth:
    side = math.ceil(lattice.reach / lattice.step)
    places = torch.arange(-side, side + 1, dtype=torch.float64) * lattice.step
    wanted = (places.square().unsqueeze(1) + places.square() <= lattice.reach**2).expand(len(tokens), -1, -1)
    values = torch.full(wanted.shape, -math.inf, dtype=torch.float64)
    rows, found = torch.arange(len(tokens)), []
    before = torch.full((len(tokens),), math.inf, dtype=torch.float64)
    done = torch.zeros(len(tokens), dtype=torch.bool)
    for halving in range(lattice.halvings + 1):
        if halving:
            values, wanted, places = _refined(values[~done], places, lattice)
        values[wanted] = _evaluated(log_probs, tokens[rows], wanted, places)
        result = _moments(values, places, before)
        done = result.change < lattice.tolerance
        found.append((rows[done], Truth(*(part[done] for part in result))))
        if bool(done.all()):
            break
        rows, before = rows[~done], result.log_likelihood[~done]
    else:
        raise ValueError(
            f"log p(x) of {len(rows)} sequences, the first of them {tokens[rows[0]].tolist()}, still changes by up to "
            f"{float(result.change[~done].max()):.1g} nats at a step of {lattice.step / 2**lattice.halvings:g}: allow "
            "more halvings."
        )
    order = torch.cat([rows for rows, _ in found]).argsort()
    return Truth(*(torch.cat(part)[order] for part in zip(*(truth for _, truth in found), strict=True)))


def _evaluated(log_probs: LogProbs, tokens: Tensor, wanted: Tensor, places: Tensor) -> Tensor:
    """log p(x|z) at the *wanted* places (B, N, N), in order, (R,)."""
    rows, first, second = wanted.nonzero(as_tuple=True)
    z = torch.stack([places[first], places[second]], dim=1).float()
    return torch.cat(
        [log_probs(z[some], tokens[rows[some]]) for some in torch.arange(len(rows)).split(_ROWS_AT_A_TIME)]
    )


def _log_joint(values: Tensor, places: Tensor) -> Tensor:
    """log p(x|z) + log p(z), (B, N, N), of log p(x|z) at all *places* squared."""
    log_prior = -0.5 * places.square() - 0.5 * math.log(2 * math.pi)
    return values + log_prior.unsqueeze(1) + log_prior


def _moments(values: Tensor, places: Tensor, before: Tensor) -> Truth:
    """The integrals as sums over the lattice, of log p(x|z) (B, N, N), -inf where it is not evaluated.

    *before* is log p(x) of the lattice of twice the step, (B,), inf where there is none.
    """
    flat = values.flatten(1)
    log_joint = _log_joint(values, places).flatten(1)
    log_likelihood = log_joint.logsumexp(dim=1) + 2 * torch.log(places[1] - places[0])
    weights = log_joint.softmax(dim=1)
    z = torch.cartesian_prod(places, places)
    mean = weights @ z
    second = (weights @ (z.unsqueeze(2) * z.unsqueeze(1)).flatten(1)).view(-1, 2, 2)
    divergence = (weights * flat.masked_fill(flat == -math.inf, 0.0)).sum(dim=1) - log_likelihood
    change = (log_likelihood - before).abs()
    covariance = second - mean.unsqueeze(2) * mean.unsqueeze(1)
    return Truth(log_likelihood, mean, covariance, divergence, change, (flat > -math.inf).sum(dim=1))


def _refined(values: Tensor, places: Tensor, lattice: Lattice) -> tuple[Tensor, Tensor, Tensor]:
    """Half the step: what is known of log p(x|z), which new places are wanted, and the places."""
    log_joint = _log_joint(values, places)
    near = log_joint > log_joint.amax(dim=(1, 2), keepdim=True) - lattice.cut
    count, size = len(values), 2 * len(places) - 1
    finer = torch.full((count, size, size), -math.inf, dtype=torch.float64)
    finer[:, ::2, ::2] = values
    seeds = torch.zeros(count, size, size)
    seeds[:, ::2, ::2] = near.float()
    wanted = (max_pool2d(seeds.unsqueeze(1), 3, 1, 1).squeeze(1) > 0) & (finer == -math.inf)
    return finer, wanted, torch.linspace(float(places[0]), float(places[-1]), size, dtype=torch.float64)
