"""Models that are no models, and what the card's two numbers say of them: they show how each number alone is gamed."""

import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.metrics.variety import distinct_ngrams, distinct_sequences
from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.model import estimate
from fairseq_seqvae.oracle.score import read_tokens

BACK_OFF_WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
_SEED = 1001  # of the draws here; the data's own seed is another


class BigramTable(NamedTuple):
    """p(b|a) = (count(a, b) + k p(b)) / (count(a) + k), with p(b) = (count(b) + 1) / (N + V).

    The start of a sequence is a token of its own. With k = 0 only bigrams of the training data are possible.

    Attributes:
        pairs: (N,) codes a * V + b of all bigrams of the training data, sorted
        tokens: (N,), its tokens
        vocab_size: V
        k: weight of the back-off
    """

    pairs: Tensor
    tokens: Tensor
    vocab_size: int
    k: float

    @classmethod
    def fit(cls, train: Tensor, vocab_size: int, k: float) -> "BigramTable":
        """Count *train* (N, T)."""
        return cls(_codes(train, vocab_size).flatten().sort().values, train.flatten(), vocab_size, k)

    def nll(self, tokens: Tensor) -> Tensor:
        """Nats per token of each sequence, (B,); infinite where a bigram is impossible."""
        return -self.token_probs(tokens).log().mean(dim=1)

    def probs(self, previous: Tensor) -> Tensor:
        """Probabilities of all tokens after each of *previous* (R,), of which V is the start, (R, V) float32."""
        after = torch.zeros(self.vocab_size + 1, self.vocab_size)
        before, token = self.pairs.div(self.vocab_size, rounding_mode="floor"), self.pairs % self.vocab_size
        after.index_put_((before, token), torch.ones(len(self.pairs)), accumulate=True)
        count = after.sum(dim=1, keepdim=True)
        return ((after + self.k * self._unigrams().float()) / (count + self.k))[previous]

    def _unigrams(self) -> Tensor:
        unigrams = torch.bincount(self.tokens, minlength=self.vocab_size).double() + 1
        return unigrams / unigrams.sum()

    def token_probs(self, tokens: Tensor) -> Tensor:
        """Probability of each token after the one before, (B, T), float64."""
        codes = _codes(tokens, self.vocab_size)
        previous = codes.div(self.vocab_size, rounding_mode="floor")
        unigram = self._unigrams()[tokens]
        first, end = self._range_of(previous)
        pair_count = torch.searchsorted(self.pairs, codes, right=True) - torch.searchsorted(self.pairs, codes)
        probs = (pair_count + self.k * unigram) / (end - first + self.k)
        # Without back-off a token that nothing ever followed has no distribution: the sampler takes p(b).
        return torch.where(end - first + self.k > 0, probs, unigram)

    def sample(self, n: int, length: int, seed: int) -> Tensor:
        """Draw *n* sequences of *length* tokens, (n, length)."""
        generator = torch.Generator().manual_seed(seed)

        def uniform() -> Tensor:
            return torch.rand(n, generator=generator, dtype=torch.float64)

        previous = torch.full((n,), self.vocab_size)
        columns = []
        for _ in range(length):
            first, end = self._range_of(previous)
            count = end - first
            seen = self.pairs[(first + (uniform() * count).long()).clamp(max=len(self.pairs) - 1)] % self.vocab_size
            place = (uniform() * (len(self.tokens) + self.vocab_size)).long()
            known = self.tokens[place.clamp(max=len(self.tokens) - 1)]
            unigram = torch.where(place < len(self.tokens), known, place - len(self.tokens))
            previous = torch.where(uniform() * (count + self.k) < count, seen, unigram)
            columns.append(previous)
        return torch.stack(columns, dim=1)

    def _range_of(self, previous: Tensor) -> tuple[Tensor, Tensor]:
        low = previous * self.vocab_size
        return torch.searchsorted(self.pairs, low), torch.searchsorted(self.pairs, low + self.vocab_size)


def _codes(tokens: Tensor, vocab_size: int) -> Tensor:
    start = torch.full_like(tokens[:, :1], vocab_size)
    return torch.cat([start, tokens[:, :-1]], dim=1) * vocab_size + tokens


def baselines(oracle: Oracle, text: Path, length: int, draws: int, held_out: int) -> list[dict[str, Any]]:
    """Rows of the card: name, what it is, both numbers (held-out NLL None where infinite), variety of the samples.

    Args:
        text: folder with train.txt, valid.txt, test.txt
        draws: samples of each
        held_out: sequences of the test split, the first ones
    """
    train, valid, test = (
        read_tokens(text / f"{split}.txt", oracle.vocab_size, length) for split in ("train", "valid", "test")
    )
    test = test[:held_out]
    exact = BigramTable.fit(train, oracle.vocab_size, 0.0)
    smoothed = min((exact._replace(k=k) for k in BACK_OFF_WEIGHTS), key=lambda table: float(table.nll(valid).mean()))
    constants = torch.arange(oracle.vocab_size).unsqueeze(1).expand(-1, length)
    best_token = int(oracle.nll(constants).argmin())
    constant = torch.full((draws, length), best_token)
    # What it says of the held-out sequences: only a sequence of that token is possible.
    of_constant = torch.where((test == best_token).all(dim=1), 0.0, math.inf)
    copies = Counter(map(tuple, train.tolist()))
    chances = torch.tensor([copies[tuple(row)] / len(train) for row in test.tolist()], dtype=torch.float64)
    of_copy = -chances.log() / length
    rows = [
        ("oracle", "fresh samples of the oracle: the entropy", oracle.sample(draws, length, _SEED), oracle.nll(test)),
        ("constant token", f"token {best_token} repeated", constant, of_constant),
        ("bigram table", "of the training data", exact.sample(draws, length, _SEED), exact.nll(test)),
        (
            "bigram table, smoothed",
            f"backs off to single tokens with weight k = {smoothed.k:g}, chosen on the validation split",
            smoothed.sample(draws, length, _SEED),
            smoothed.nll(test),
        ),
        ("copied training set", "its sequences as they are", train, of_copy),
    ]
    return [_row(oracle, *row) for row in rows]


def _row(oracle: Oracle, name: str, what: str, samples: Tensor, held_out_nll: Tensor) -> dict[str, Any]:
    quality = estimate(oracle.nll(samples))
    coverage = estimate(held_out_nll) if bool(held_out_nll.isfinite().all()) else None
    lengths = torch.full((len(samples),), samples.size(1))
    distinct_bigrams, bigrams = distinct_ngrams(samples, lengths, 2)
    return {
        "name": name,
        "what": what,
        "oracle_nll": quality.mean,
        "oracle_nll_standard_error": quality.standard_error,
        "held_out_nll": coverage.mean if coverage else None,
        "held_out_nll_standard_error": coverage.standard_error if coverage else None,
        "samples": len(samples),
        "distinct_sequences": distinct_sequences(samples, lengths),
        "bigrams": bigrams,
        "distinct_bigrams": distinct_bigrams,
    }
