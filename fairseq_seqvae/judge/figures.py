"""The rows of the judge's table: held-out data, and samples of one temperature."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairseq_seqvae.judge.training import JudgePlan, Sequences, Transposer, accuracies, train_judge
from fairseq_seqvae.measure.figures import prior_samples, read_split
from fairseq_seqvae.melody import statistics
from fairseq_seqvae.melody.tokens import PITCH_OF
from fairseq_seqvae.metrics.bigrams import jensen_shannon
from fairseq_seqvae.metrics.copies import share_of_copies
from fairseq_seqvae.metrics.notes import note_tokens
from fairseq_seqvae.metrics.variety import distinct_sequences
from fairseq_seqvae.tasks.transposing import transposition

_LEAP = 5  # semitones; a larger interval is a leap


class Room:
    """A model, its data, and what its samples are compared with.

    Args:
        model: a SeqVAE in evaluation mode
        task: that of the checkpoint
        split: held-out split
        held_out: most held-out sequences
        training: most training sequences
        bar: steps of a bar, of melodies
    """

    def __init__(self, model: Any, task: Any, split: str, held_out: int, training: int, bar: int = 16):
        self.model, self.task, self.bar = model, task, bar
        device = next(model.parameters()).device
        self.all_training, self.held_out = (
            Sequences(*read_split(task, name, number).to(device)[1:3])
            for name, number in (("train", None), (split, held_out))
        )
        self.training = self.all_training.rows(torch.arange(len(self.all_training.tokens), device=device)[:training])
        self.transposition = transposition(
            getattr(task.cfg, "transpose", None), task.dictionary, getattr(task.cfg, "transpose_by", "semitones")
        )
        self.pitch_of: np.ndarray | None = None
        if note_tokens(task.dictionary) is not None:
            # A token without a pitch becomes a negative number of its own.
            self.pitch_of = np.array([PITCH_OF.get(s, -1 - i) for i, s in enumerate(task.dictionary.symbols)])

    def held_out_row(self) -> dict[str, Any]:
        """The figures of the held-out sequences themselves."""
        return {"sequences": len(self.held_out.tokens), **self.statistics(self.held_out)}

    def sampled_row(self, temperature: float, seeds: Sequence[int], prior: str, plan: JudgePlan) -> dict[str, Any]:
        """The means over *seeds* of the figures of samples, and under ``runs`` those of each seed.

        Args:
            temperature: of the decoder
            seeds: one judge and one set of samples each
            prior: ``model`` or ``fitted``
            plan: of the judge
        """
        runs = [self._run(temperature, seed, prior, plan) for seed in seeds]
        means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0] if name != "seed"}
        return {"temperature": temperature, **means, "runs": runs}

    def _run(self, temperature: float, seed: int, prior: str, plan: JudgePlan) -> dict[str, Any]:
        number, count = len(self.training.tokens), len(self.held_out.tokens)
        drawn = prior_samples(self.model, number + count, seed, temperature, prior)
        samples = Sequences(drawn.tokens, drawn.lengths)
        ids = torch.arange(number + count, device=drawn.tokens.device)
        fresh = samples.rows(ids >= number)
        transpose = Transposer(self.transposition, seed)
        dictionary = self.task.dictionary
        judge = train_judge(
            self.training, samples.rows(ids < number), len(dictionary), dictionary.pad(), plan, transpose
        )
        held_out = self.held_out._replace(tokens=transpose(self.held_out.tokens, ids[:count], 0))
        real, fake = accuracies(judge.model, held_out, fresh)
        return {
            "seed": seed,
            "accuracy": (real + fake) / 2,
            "accuracy_standard_error": ((real * (1 - real) + fake * (1 - fake)) / count) ** 0.5 / 2,
            "accuracy_real": real,
            "accuracy_fake": fake,
            "judge_updates": judge.updates,
            "judge_valid_accuracy": judge.valid_accuracy,
            **self.statistics(fresh),
        }

    def statistics(self, sequences: Sequences) -> dict[str, float]:
        """What is counted of sequences, as shares; copies are those of training sequences."""
        found = {
            "distinct": distinct_sequences(*sequences) / len(sequences.tokens),
            "copies": share_of_copies(*sequences, *self.all_training),
        }
        if self.pitch_of is None:
            return found
        pitches, known = self._pitches(sequences, self.pitch_of), self._pitches(self.all_training, self.pitch_of)
        steps = statistics.intervals(pitches)
        counts = [torch.from_numpy(statistics.interval_counts(part)) for part in (pitches, known)]
        found |= {
            "transposed_copies": share_of_copies(*_relative(pitches, sequences), *_relative(known, self.all_training)),
            "in_one_scale": float(statistics.in_one_scale(pitches).mean()),
            "leaps": float((np.abs(steps) > _LEAP).mean()) if len(steps) else 0.0,
            "interval_divergence": float(jensen_shannon(*counts)),
        }
        if pitches.shape[1] >= 2 * self.bar:
            found["bar_returns"] = float(statistics.a_bar_returns(pitches, self.bar).mean())
        return found

    @staticmethod
    def _pitches(sequences: Sequences, pitch_of: np.ndarray) -> np.ndarray:
        return pitch_of[sequences.tokens.cpu().numpy()]


def _relative(pitches: np.ndarray, sequences: Sequences) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(statistics.from_first_note(pitches)), sequences.lengths.cpu()
