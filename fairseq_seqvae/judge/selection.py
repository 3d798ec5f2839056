"""Draws of which discriminators that are trained for it find as many real as there are: rejection sampling.

Azadi et al. 2019, "Discriminator rejection sampling". A discriminator that is right about its odds gives
p_data / p_draws of each draw. Draws that are kept with a probability proportional to it are draws of the data's
distribution. A policy gradient with the log-odds as reward, and the divergence from the drawing model as its price,
would end there, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.augmentation import Transposition
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.judge.training import JudgePlan, Sequences, Transposer, logits_of, train_judge

_FEWEST = 20  # draws, and sequences of the data, that a discriminator can be trained and validated on
_HALVINGS = 60  # of the interval that the threshold is searched in
# Far from the seeds that judges get: one with the same first weights as a discriminator that selects would be blinder.
_FIRST_SEED = 1_000_000


@dataclass(frozen=True)
class SelectionPlan:
    """How draws are selected.

    Attributes:
        keep: share of the draws that are kept, in (0, 1]
        rounds: discriminators that are trained one after the other, each on what those before it keep
        members: of each round, whose log-odds are averaged
        judge: how each is built and trained
        seed: of all of it
    """

    keep: float = 0.1
    rounds: int = 2
    members: int = 2
    judge: JudgePlan = field(default_factory=JudgePlan)
    seed: int = 1


class Round(NamedTuple):
    """What a round found.

    Attributes:
        accuracy: mean accuracy of its discriminators, on data and draws that they did not learn from
        kept: numbers of the draws that are kept after it, ascending
    """

    accuracy: float
    kept: Tensor


def threshold(odds: Tensor, keep: float) -> float:
    """The number c for which exp(*odds* - c), but at most 1, is *keep* on the mean.

    Args:
        odds: log-odds (N,)
        keep: in (0, 1]
    """
    odds = odds.double()
    low, high = float(odds.min()), float(odds.max()) - torch.tensor(keep, dtype=torch.float64).log().item()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float((odds - middle).exp().clamp(max=1).mean()) > keep:
            low = middle
        else:
            high = middle
    return low


def selection(
    real: Sequences,
    drawn: Sequences,
    vocab_size: int,
    pad: int,
    plan: SelectionPlan,
    transposition: Transposition | None = None,
) -> Iterator[Round]:
    """Train the discriminators, and select by them; a :class:`Round` each.

    Args:
        real: training data
        drawn: N draws
        vocab_size: V
        pad: the padding token
        plan: how
        transposition: of the real sequences, as in the training of the model

    Raises:
        ValueError: there are too few sequences, or draws that are kept, to learn from
    """
    ids = torch.arange(len(drawn.tokens), device=drawn.tokens.device)
    chance = Draws(plan.seed).uniforms(Stream.SELECTION, ids, 0, 1).squeeze(dim=1)
    odds = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
    kept = ids
    for number in range(plan.rounds):
        count = min(len(real.tokens), len(kept))
        if count < _FEWEST:
            raise ValueError(
                f"round {number + 1} has {len(kept)} draws and {len(real.tokens)} sequences of the data to learn from, "
                f"but needs {_FEWEST} of each: give more --draws, or a larger --keep."
            )
        # Evenly spread: neighbours in the data often come from one source.
        rows = torch.arange(count, device=ids.device) * len(real.tokens) // max(1, count)
        accuracies = []
        for member in range(plan.members):
            transpose = Transposer(transposition, _FIRST_SEED * (plan.seed + 1) + number * plan.members + member)
            judge = train_judge(real.rows(rows), drawn.rows(kept[:count]), vocab_size, pad, plan.judge, transpose)
            odds += logits_of(judge.model, drawn).double() / plan.members
            accuracies.append(judge.valid_accuracy)
        kept = ids[chance < (odds - threshold(odds, plan.keep)).exp()]
        yield Round(sum(accuracies) / plan.members, kept)
