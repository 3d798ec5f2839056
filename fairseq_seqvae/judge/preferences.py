"""What rewards say of draws, and of the data that they are to match."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.sequences import padding_mask
from fairseq_seqvae.judge.selection import Preferences
from fairseq_seqvae.judge.training import Sequences
from fairseq_seqvae.rewards.registry import Run
from fairseq_seqvae.rewards.rule import RuleReward
from fairseq_seqvae.rewards.sources import DISCRIMINATOR, load_rule, names_of, parted, split_sources, split_weights
from fairseq_seqvae.rewards.texts import Reader

_ROWS_AT_A_TIME = 2048
_REFERENCES = 64  # sequences of the data, evenly spread, that a rule is told; in training those of a batch


class Judged(NamedTuple):
    """A reward of draws.

    Attributes:
        name: of the reward
        weight: of the flag; None: it is to be matched
        of_draws: (N,), NaN where it has no opinion
        of_data: the same, of training sequences
    """

    name: str
    weight: float | None
    of_draws: Tensor
    of_data: Tensor


class Rewards(NamedTuple):
    """The rewards of the flags.

    Attributes:
        discriminator: weight of its log-odds; None: it is not among them
        judged: the others
        size: of the draws, N
    """

    discriminator: float | None
    judged: list[Judged]
    size: int

    def preferences(self) -> Preferences:
        """What they prefer among the draws; one without an opinion of a draw neither likes nor dislikes it."""
        odds, features = torch.zeros(self.size, dtype=torch.float64), []
        for one in self.judged:
            if one.weight is not None:
                odds += one.weight * one.of_draws.nan_to_num(float(one.of_draws.nanmean().nan_to_num(0)))
                continue
            known = one.of_data[~one.of_data.isnan()]
            if not len(known) or known.min() == known.max():
                said = f"{float(known[0]):g}" if len(known) else "None"
                raise ValueError(
                    f"--reward-sources {one.name} says {said} of all training sequences, so there is nothing to match: "
                    f"give it without match:, or another rule."
                )
            features.append(((one.of_draws - known.mean()) / known.std(correction=0)).nan_to_num(0))
        return Preferences(odds, torch.stack(features, dim=1) if features else odds.new_zeros(self.size, 0))

    def told(self, kept: Tensor) -> list[str]:
        """A line per reward: its mean of the data, of all draws and of those *kept*."""
        kept = kept.cpu()
        return [
            f"{one.name}: {_mean(one.of_data)} of the training data, {_mean(one.of_draws)} of all draws, "
            f"{_mean(one.of_draws[kept])} of those that are kept"
            for one in self.judged
        ]


def load_preferences(
    sources_text: str, weights_text: str | None, task: Any, real: Sequences, drawn: Sequences
) -> Rewards:
    """Load what the flags name, and judge by it.

    Args:
        sources_text: that of --reward-sources
        weights_text: that of --reward-weights
        task: of the checkpoint
        real: training data
        drawn: the draws

    Raises:
        ValueError: a source does not exist or will not do, or a weight; the message names the flag
    """
    sources = split_sources(sources_text)
    weights = split_weights(weights_text, len(sources))
    if len(weights) != len(sources):
        raise ValueError(f"--reward-weights {weights_text}: give a number for each of --reward-sources {sources_text}.")
    reader = Reader(task.dictionary)
    some = real.rows(torch.arange(0, len(real.tokens), max(1, len(real.tokens) // _REFERENCES)))
    reader.batch = some.tokens, padding_mask(some.lengths, some.tokens.size(1))
    data = [reader.text(row) for row in _rows(real, task)]
    run = Run(task.dictionary, lambda: data, str(task.cfg.data), lambda: _rows(real, task))
    discriminator, judged = None, []
    for source, name, weight in zip(sources, names_of(sources), weights, strict=True):
        prefix, rule = parted(source)
        if source == DISCRIMINATOR:
            discriminator = weight
            continue
        if rule == DISCRIMINATOR:
            raise ValueError(f"--reward-sources {source}: a discriminator matches the data already: omit match:.")
        if prefix and weight != 1:
            raise ValueError(f"--reward-weights: the weight of {source} is found, not given: let it be 1.")
        reward = RuleReward(source, load_rule(rule, run), reader)
        judged.append(Judged(name, None if prefix else weight, _scores(reward, drawn), _scores(reward, real)))
    return Rewards(discriminator, judged, len(drawn.tokens))


def _rows(sequences: Sequences, task: Any) -> list[list[int]]:
    """Numbers of the symbols, without padding and end."""
    rows = zip(sequences.tokens.tolist(), sequences.lengths.tolist(), strict=True)
    return [row[: length - (not task.fixed_length)] for row, length in rows]


def _scores(reward: RuleReward, sequences: Sequences) -> Tensor:
    """What a reward says of each, (N,) float64, on the CPU."""
    parts = zip(*(part.cpu().split(_ROWS_AT_A_TIME) for part in sequences), strict=True)
    return torch.cat([reward.score(t, padding_mask(lengths, t.size(1))).double() for t, lengths in parts])


def _mean(values: Tensor) -> str:
    return f"{float(values.nanmean()):.4g}"
