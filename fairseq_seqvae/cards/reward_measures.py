"""The numbers of a row of the card of rewards."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fairseq_seqvae.cards.best_of import Scores, usual_bound
from fairseq_seqvae.core.rollouts.policy import Samples
from fairseq_seqvae.measure import figures as measure
from fairseq_seqvae.metrics.copies import share_of_copies
from fairseq_seqvae.rewards.registry import Run
from fairseq_seqvae.rewards.rule import RuleReward
from fairseq_seqvae.rewards.sources import load_rule, names_of, parted
from fairseq_seqvae.rewards.texts import Reader


class Judged(NamedTuple):
    """Scores of sequences.

    Attributes:
        score: (N,), mean of all sources
        by_source: source -> (N,)
    """

    score: np.ndarray
    by_source: dict[str, np.ndarray]


class Judge:
    """Judges samples by a rule, and models by held-out data and by their divergence from the one before the rewards.

    Args:
        base: checkpoint before the rewards
        data: folder of binarised data
        sources: rewards
        threshold: a sequence of this score meets the rule
        settings: a :class:`fairseq_seqvae.cards.reward_cells.Settings`
        seed: of sampling
    """

    def __init__(self, base: Path, data: Path, sources: Sequence[str], threshold: float, settings: Any, seed: int):
        self.base, self.task = measure.load(base, data)
        self.data, self.settings, self.seed, self.threshold = data, settings, seed, threshold
        self.reader = Reader(self.task.dictionary)
        self.train = measure.read_split(self.task, "train")
        self.test = measure.read_split(self.task, "test", settings.sequences)
        run = Run(self.task.dictionary, self._training_texts, str(data))
        self.rules = {
            # What match:REWARD compares with the data is how much of the reward there is.
            name: RuleReward(source, load_rule(parted(source)[1], run), self.reader)
            for name, source in zip(names_of(list(sources)), sources, strict=True)
        }

    def _training_texts(self) -> list[str]:
        return self.reader.read(*self._tokens_and_mask(self.train)).texts

    def _tokens_and_mask(self, split: measure.HeldOutSet) -> tuple[torch.Tensor, torch.Tensor]:
        return split.tokens, split.tokens.eq(self.task.dictionary.pad())

    def of_policy(self, checkpoint: Path) -> dict[str, Any]:
        """The numbers of a trained policy."""
        model, _ = measure.load(checkpoint, self.data)
        return self._row(model, 1.0)

    def of_temperature(self, temperature: float) -> dict[str, Any]:
        """The numbers of the model before the rewards at a temperature."""
        return {"temperature": temperature, **self._row(self.base, temperature)}

    def best_of(self) -> tuple[Scores, list[dict[str, Any]]]:
        """The distribution of the score of one draw, and the numbers of best-of-n for each n.

        All n choose from the same draws: the best of the first n of each group of the largest n.
        """
        largest, kept = max(self.settings.best_of), self.settings.samples
        drawn, seconds = self._draw(self.base, kept * largest, 1.0)
        judged = self._judge(drawn.tokens, drawn.mask)
        scores = Scores.of(judged.score)
        its_scores = self._judge(*self._tokens_and_mask(self.test)).score
        nll, rows = self._nll(self.base, 1.0), []
        for n in self.settings.best_of:
            # argmax takes the first of equals; draws are independent, so that is chance enough.
            chosen = judged.score.reshape(kept, largest)[:, :n].argmax(axis=1) + np.arange(kept) * largest
            index = torch.from_numpy(chosen)
            some = Samples(*(part[index] for part in drawn[:3]))
            shift = scores.shift_of_nll(n, its_scores.tolist())
            rows.append(
                {
                    "n": n,
                    **self._of_samples(some, Judged(judged.score[chosen], _chosen(judged.by_source, chosen))),
                    "share": scores.share_met(self.threshold, n),
                    "divergence": scores.divergence(n),
                    "bound": usual_bound(n),
                    "nll_per_sequence": None if shift is None else nll + shift,
                    "draw_seconds": seconds / (kept * largest) * n * 1000,
                }
            )
        return scores, rows

    def _row(self, model: Any, temperature: float) -> dict[str, Any]:
        drawn, seconds = self._draw(model, self.settings.samples, temperature)
        divergence = measure.divergence_from(self.base, model, drawn, self.seed, temperature)
        return {
            **self._of_samples(drawn, self._judge(drawn.tokens, drawn.mask)),
            "divergence": float(divergence.mean()),
            "divergence_error": float(divergence.std() / len(divergence) ** 0.5),
            "nll_per_sequence": self._nll(model, temperature),
            "draw_seconds": seconds / self.settings.samples * 1000,
        }

    def _of_samples(self, drawn: Samples, judged: Judged) -> dict[str, Any]:
        own = drawn.tokens, drawn.lengths
        return {
            "share": float((judged.score >= self.threshold).mean()),
            "score": float(judged.score.mean()),
            "sources": {name: float(values.mean()) for name, values in judged.by_source.items()},
            "copies": share_of_copies(*own, self.train.tokens, self.train.lengths),
            **measure.variety(*own),
        }

    def _draw(self, model: Any, number: int, temperature: float) -> tuple[Samples, float]:
        """Samples from the prior, and the CPU seconds they took."""
        begun = time.process_time()
        return measure.prior_samples(model, number, self.seed, temperature), time.process_time() - begun

    def _judge(self, tokens: torch.Tensor, mask: torch.Tensor) -> Judged:
        by_source = {name: rule.score(tokens, mask).double().numpy() for name, rule in self.rules.items()}
        # A rule without an opinion counts neither for nor against.
        with np.errstate(all="ignore"):
            score = np.nan_to_num(np.nanmean(np.stack(list(by_source.values())), axis=0))
        return Judged(score, {name: np.nan_to_num(values) for name, values in by_source.items()})

    def _nll(self, model: Any, temperature: float) -> float:
        samples = self.settings.importance_samples
        found, _ = measure.measure_held_out(model, self.test, [temperature], samples, self.seed)
        return float(found["nll_per_sequence"][0])


def _chosen(by_source: dict[str, np.ndarray], index: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[index] for name, values in by_source.items()}
