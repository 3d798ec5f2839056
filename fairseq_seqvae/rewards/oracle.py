"""The true probability of a sequence, where data are drawn from an oracle: a reward that says more than they do."""

import re
from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.rewards.registry import Rule, Run, register_reward

# Nats per token of a sequence that the oracle cannot have drawn: fewer than its own samples ever have.
IMPOSSIBLE = -30.0


@register_reward("oracle")
def oracle(argument: str, run: Run) -> Rule:
    """Mean log-probability of the tokens of a sample under an oracle of 5,000 tokens, nats per token.

    Symbols are the numbers of tokens, as ``python -m fairseq_seqvae.oracle generate`` writes them. A sample with
    another symbol, or without any, gets `IMPOSSIBLE`.

    Args:
        argument: seed of the oracle, such as 88; with another factor of its weights than 1, such as 89*1.2; or an .npz
            file of its arrays
    """
    if not argument:
        raise ValueError("give the seed of the oracle, such as oracle:88, or an .npz file with its arrays.")
    return _TrueProbability(argument)


class _TrueProbability:
    def __init__(self, argument: str):
        found = re.fullmatch(r"(\d+)(?:\*(\d+(?:\.\d+)?))?", argument)
        self._oracle = _of_seed(*found.groups()) if found else _of_file(argument)

    def __call__(self, samples: list[str], **kwargs: Any) -> list[float]:
        rows = [self._numbers(sample.split()) for sample in samples]
        scores = [IMPOSSIBLE] * len(rows)
        for length in {len(row) for row in rows if row}:
            places = [i for i, row in enumerate(rows) if row and len(row) == length]
            nll: Tensor = self._oracle.nll(torch.tensor([rows[i] for i in places]))
            for i, value in zip(places, nll.tolist(), strict=True):
                scores[i] = max(-value, IMPOSSIBLE)
        return scores

    def _numbers(self, symbols: list[str]) -> list[int] | None:
        """Numbers of the tokens; None if one of them is no token of the oracle."""
        if not all(symbol.isdecimal() and int(symbol) < self._oracle.vocab_size for symbol in symbols):
            return None
        return [int(symbol) for symbol in symbols]


def _of_seed(seed: str, scale: str | None) -> Oracle:
    return Oracle.from_seed(int(seed), scale=float(scale or 1))


def _of_file(path: str) -> Oracle:
    try:
        return Oracle.from_npz(path)
    except OSError as error:
        raise ValueError(f"there is no file {path} of an oracle: {error}.") from error
