"""Draws that rewards prefer, those of discriminators that are trained for it above all, by rejection sampling.

Azadi et al. 2019, "Discriminator rejection sampling". A discriminator that is right about its odds gives
p_data / p_draws of each draw. Draws that are kept with a probability proportional to it are draws of the data's
distribution. A policy gradient with the log-odds as reward, and the divergence from the drawing model as its price,
would end there, too. Other rewards are added to the log-odds; one that is to be matched has the weight at which the
draws that are kept have as much of it as the data (Khalifa et al. 2021, "A distributional approach to controlled text
generation").
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.augmentation import Transposition
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.judge.training import Judge, JudgePlan, Sequences, Transposer, logits_of, train_judge

_FEWEST = 20  # draws, and sequences of the data, that a discriminator can be trained and validated on
_HALVINGS = 60  # of the interval that the threshold is searched in
_NEWTON_STEPS = 50
_NEAR_ENOUGH = 1e-3  # standard deviations of the data
_RIDGE = 1e-3  # where hardly a draw has a feature
_LARGEST_STEP, _LARGEST_WEIGHT = 1.0, 20.0
# Far from the seeds that judges get: one with the same first weights as a discriminator that selects would be blinder.
_FIRST_SEED = 1_000_000


@dataclass(frozen=True)
class SelectionPlan:
    """How draws are selected.

    Attributes:
        keep: share of the draws that are kept, in (0, 1]
        weight: of the discriminators' log-odds; None: there are no discriminators, and a single round
        rounds: discriminators that are trained one after the other, each on what those before it keep
        members: of each round, whose log-odds are averaged
        judge: how each is built and trained
        seed: of all of it
    """

    keep: float = 0.1
    weight: float | None = 1.0
    rounds: int = 2
    members: int = 2
    judge: JudgePlan = field(default_factory=JudgePlan)
    seed: int = 1


class Preferences(NamedTuple):
    """What is known of N draws without any discriminator.

    Attributes:
        odds: (N,), added to their log-odds
        features: (N, R), of which the draws that are kept shall have the mean 0
    """

    odds: Tensor
    features: Tensor


class Round(NamedTuple):
    """What a round found.

    Attributes:
        accuracy: mean accuracy of its discriminators, on data and draws that they did not learn from; NaN without any
        kept: numbers of the draws that are kept after it, ascending
        divergence: of the distribution of what is kept from that of all draws, nats per sequence
    """

    accuracy: float
    kept: Tensor
    divergence: float


def threshold(odds: Tensor, keep: float) -> float:
    """The number c for which exp(*odds* - c), but at most 1, is *keep* on the mean.

    Args:
        odds: log-odds (N,)
        keep: in (0, 1]
    """
    odds = odds.double()
    low, high = float(odds.min()), float(odds.max()) - math.log(keep)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float((odds - middle).exp().clamp(max=1).mean()) > keep:
            low = middle
        else:
            high = middle
    return low


def chances(odds: Tensor, features: Tensor, keep: float) -> Tensor:
    """Probabilities (N,) to keep each draw, *keep* on the mean: in proportion to exp(odds + features . w), at most 1.

    The weights w are those at which the draws that are kept have features with the mean 0, or as near as the draws
    allow, by Newton's method.

    Args:
        odds: (N,)
        features: (N, R)
        keep: in (0, 1]
    """
    odds, features = odds.double(), features.double()
    weights = torch.zeros(features.size(1), dtype=torch.float64, device=features.device)
    for step in range(_NEWTON_STEPS + 1):
        tilted = odds + features @ weights
        chance = (tilted - threshold(tilted, keep)).exp().clamp(max=1)
        share = chance / chance.sum()
        mean = share @ features
        if step == _NEWTON_STEPS or bool((mean.abs() < _NEAR_ENOUGH).all()):
            break
        # A draw whose chance is 1 already does not gain by more weight.
        off = features - mean
        curvature = (off * (share * (chance < 1)).unsqueeze(1)).T @ off + _RIDGE * torch.eye(
            len(weights), device=off.device
        )
        weights -= torch.linalg.solve(curvature, mean).clamp(-_LARGEST_STEP, _LARGEST_STEP)
        weights.clamp_(-_LARGEST_WEIGHT, _LARGEST_WEIGHT)
    return chance


def divergence(chance: Tensor) -> float:
    """KL of draws that are kept with these probabilities (N,) from all N, nats: of draws from the same distribution."""
    share = chance / chance.sum()
    return float(torch.special.xlogy(share, share * len(share)).sum())


def selection(
    real: Sequences,
    drawn: Sequences,
    vocab_size: int,
    pad: int,
    plan: SelectionPlan,
    transposition: Transposition | None = None,
    preferences: Preferences | None = None,
) -> Iterator[Round]:
    """Train the discriminators, and select by them and by *preferences*; a :class:`Round` each.

    Args:
        real: training data
        drawn: N draws
        vocab_size: V
        pad: the padding token
        plan: how
        transposition: of the real sequences, as in the training of the model
        preferences: what else counts

    Raises:
        ValueError: there are too few sequences, or draws that are kept, to learn from
    """
    kept = ids = torch.arange(len(drawn.tokens), device=drawn.tokens.device)
    luck = Draws(plan.seed).uniforms(Stream.SELECTION, ids, 0, 1).squeeze(dim=1)
    odds = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
    features = odds.new_zeros(len(ids), 0)
    if preferences is not None:
        odds, features = preferences.odds.to(odds).clone(), preferences.features.to(odds)
    if plan.weight is None:
        chance = chances(odds, features, plan.keep)
        yield Round(math.nan, ids[luck < chance], divergence(chance))
        return
    for number in range(plan.rounds):
        accuracies = []
        for judge in _discriminators(real, drawn.rows(kept), vocab_size, pad, plan, transposition, number):
            odds += plan.weight * logits_of(judge.model, drawn).double() / plan.members
            accuracies.append(judge.valid_accuracy)
        chance = chances(odds, features, plan.keep)
        kept = ids[luck < chance]
        yield Round(sum(accuracies) / plan.members, kept, divergence(chance))


def _discriminators(
    real: Sequences,
    fake: Sequences,
    vocab_size: int,
    pad: int,
    plan: SelectionPlan,
    transposition: Transposition | None,
    number: int,
) -> Iterator[Judge]:
    """Those of round *number*, from 0, one after the other."""
    count = min(len(real.tokens), len(fake.tokens))
    if count < _FEWEST:
        raise ValueError(
            f"round {number + 1} has {len(fake.tokens)} draws and {len(real.tokens)} sequences of the data to learn "
            f"from, but needs {_FEWEST} of each: give more --draws, or a larger --keep."
        )
    # Evenly spread: neighbours in the data often come from one source.
    rows = torch.arange(count, device=real.tokens.device) * len(real.tokens) // count
    real, fake = real.rows(rows), fake.rows(torch.arange(count, device=rows.device))
    for member in range(plan.members):
        seed = _FIRST_SEED * (plan.seed + 1) + number * plan.members + member
        yield train_judge(real, fake, vocab_size, pad, plan.judge, Transposer(transposition, seed))
