"""What rewards say of draws, and of the data that they are to match."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.sequences import padding_mask
from fairseq_seqvae.judge.selection import Preferences
from fairseq_seqvae.judge.training import Sequences
from fairseq_seqvae.rewards.matching import MatchingReward, to_match
from fairseq_seqvae.rewards.registry import Run
from fairseq_seqvae.rewards.rule import RuleReward
from fairseq_seqvae.rewards.sources import DISCRIMINATOR, load_sources, split_sources, weights_fit
from fairseq_seqvae.rewards.texts import Reader

_ROWS_AT_A_TIME = 2048
_REFERENCES = 64  # sequences of the data, evenly spread, that a rule is told; in training those of a batch


class Wanted(NamedTuple):
    """A reward, and what it says of the data.

    Attributes:
        name: what is printed
        weight: of the flag
        to_match: mean and standard deviation of the data, where it is to be matched; then the weight is found
        rule: what it says of a sequence
        of_data: (N,), NaN where it has no opinion, of training sequences
    """

    name: str
    weight: float
    to_match: tuple[float, float] | None
    rule: RuleReward
    of_data: Tensor


class Rewards(NamedTuple):
    """The rewards of the flags.

    Attributes:
        discriminator: weight of its log-odds; None: it is not among them
        wanted: the others
    """

    discriminator: float | None
    wanted: list[Wanted]

    def scores(self, drawn: Sequences) -> list[Tensor]:
        """What each says of the draws, (N,), NaN where it has no opinion."""
        return [_scores(one.rule, drawn) for one in self.wanted]

    def preferences(self, scores: list[Tensor], count: int) -> Preferences:
        """What they prefer among *count* draws; one without an opinion of a draw neither likes nor dislikes it."""
        odds, features = torch.zeros(count, dtype=torch.float64), torch.zeros(count, 0, dtype=torch.float64)
        for one, said in zip(self.wanted, scores, strict=True):
            if one.to_match is None:
                odds += one.weight * said.nan_to_num(float(said.nanmean().nan_to_num(0)))
                continue
            mean, deviation = one.to_match
            features = torch.cat([features, ((said - mean) / deviation).nan_to_num(0).unsqueeze(1)], dim=1)
        return Preferences(odds, features)

    def told(self, scores: list[Tensor], kept: Tensor) -> list[str]:
        """A line per reward: its mean of the data, of all draws and of those *kept*."""
        return [
            f"{one.name}: {_mean(one.of_data)} of the training data, {_mean(said)} of all draws, "
            f"{_mean(said[kept.cpu()])} of those that are kept"
            for one, said in zip(self.wanted, scores, strict=True)
        ]


def load_rewards(sources_text: str, weights_text: str | None, task: Any, real: Sequences) -> Rewards:
    """Load what the flags name, and judge the data by it.

    Args:
        sources_text: that of --reward-sources
        weights_text: that of --reward-weights
        task: of the checkpoint
        real: training data

    Raises:
        ValueError: a source does not exist or will not do, or a weight; the message names the flag
    """
    if not weights_fit(sources_text, weights_text):
        raise ValueError(f"--reward-weights {weights_text}: give a number for each of --reward-sources {sources_text}.")
    reader = Reader(task.dictionary)
    some = real.rows(torch.arange(0, len(real.tokens), max(1, len(real.tokens) // _REFERENCES)))
    reader.batch = some.tokens, padding_mask(some.lengths, some.tokens.size(1))
    rows = _rows(real, task)
    run = Run(task.dictionary, lambda: [reader.text(row) for row in rows], str(task.cfg.data), lambda: rows)
    loaded = load_sources(sources_text, weights_text, run, reader)
    discriminator, wanted = None, []
    for source, name, weight in zip(split_sources(sources_text), loaded.names, loaded.weights, strict=True):
        if source == DISCRIMINATOR:
            discriminator = weight
            continue
        reward = loaded.rewards[name]
        matched = isinstance(reward, MatchingReward)
        if matched and weight != 1:
            raise ValueError(f"--reward-weights: the weight of {source} is found, not given: let it be 1.")
        rule = RuleReward(source, reward.rule, reader)
        of_data = _scores(rule, real)
        spread = to_match(of_data.tolist(), rule.name) if matched else None
        wanted.append(Wanted(name, weight, spread, rule, of_data))
    return Rewards(discriminator, wanted)


def _rows(sequences: Sequences, task: Any) -> list[list[int]]:
    """Numbers of the symbols, without padding and end."""
    rows = zip(sequences.tokens.tolist(), sequences.lengths.tolist(), strict=True)
    return [row[: length - (not task.fixed_length)] for row, length in rows]


def _scores(rule: RuleReward, sequences: Sequences) -> Tensor:
    """What a rule says of each, (N,) float64, on the CPU."""
    parts = zip(*(part.cpu().split(_ROWS_AT_A_TIME) for part in sequences), strict=True)
    return torch.cat([rule.score(t, padding_mask(lengths, t.size(1))).double() for t, lengths in parts])


def _mean(values: Tensor) -> str:
    return f"{float(values.nanmean()):.4g}"
