"""The rows of the judge's table: held-out data, and samples of one temperature."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fairseq_seqvae.core.augmentation import Transposition
from fairseq_seqvae.judge.training import JudgePlan, Sequences, Transposer, accuracies, train_judge
from fairseq_seqvae.measure.figures import prior_samples, read_lines, read_split
from fairseq_seqvae.melody import statistics
from fairseq_seqvae.melody.tokens import PITCH_OF
from fairseq_seqvae.metrics.bigrams import jensen_shannon
from fairseq_seqvae.metrics.copies import share_of_copies
from fairseq_seqvae.metrics.notes import note_tokens
from fairseq_seqvae.metrics.variety import distinct_sequences
from fairseq_seqvae.tasks.transposing import transposition

_LEAP = 5  # semitones; a larger interval is a leap


def known_transposition(task: Any) -> Transposition | None:
    """That of the training of a checkpoint's *task*."""
    return transposition(
        getattr(task.cfg, "transpose", None), task.dictionary, getattr(task.cfg, "transpose_by", "semitones")
    )


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
        self.transposition = known_transposition(task)
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
        number = len(self.training.tokens) + len(self.held_out.tokens)

        def draws(seed: int) -> Sequences:
            return Sequences(*prior_samples(self.model, number, seed, temperature, prior)[:2])

        return {"temperature": temperature, **self._row(draws, seeds, plan)}

    def row_of_file(self, path: Path, seeds: Sequence[int], plan: JudgePlan) -> dict[str, Any]:
        """The same of the lines of a file, in another order for each seed; for want of lines a judge learns from fewer.

        Raises:
            ValueError: there are hardly more lines than held-out sequences, or they are not of the model's dictionary
        """
        lines = read_lines(path, self.task)
        samples = Sequences(*lines[1:3])
        if len(samples.tokens) < len(self.held_out.tokens) + 2:
            raise ValueError(
                f"{path} has {len(samples.tokens)} lines, but {len(self.held_out.tokens)} are compared with held-out "
                f"sequences and a judge learns from the others: give more lines, or fewer --sequences."
            )

        def shuffled(seed: int) -> Sequences:
            order = torch.randperm(len(samples.tokens), generator=torch.Generator().manual_seed(seed))
            return Sequences(*(part[order].to(self.held_out.tokens.device) for part in samples))

        return {"file": str(path), **self._row(shuffled, seeds, plan)}

    def _row(self, samples_of: Callable[[int], Sequences], seeds: Sequence[int], plan: JudgePlan) -> dict[str, Any]:
        runs = [self._run(samples_of(seed), seed, plan) for seed in seeds]
        means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0] if name != "seed"}
        return {**means, "runs": runs}

    def _run(self, samples: Sequences, seed: int, plan: JudgePlan) -> dict[str, Any]:
        count = len(self.held_out.tokens)
        number = min(len(self.training.tokens), len(samples.tokens) - count)
        ids = torch.arange(number + count, device=samples.tokens.device)
        fresh, known = samples.rows(ids[number:]), samples.rows(ids[:number])
        transpose = Transposer(self.transposition, seed)
        dictionary = self.task.dictionary
        judge = train_judge(self.training.rows(ids[:number]), known, len(dictionary), dictionary.pad(), plan, transpose)
        held_out = self.held_out._replace(tokens=transpose(self.held_out.tokens, ids[:count], 0))
        real, fake = accuracies(judge.model, held_out, fresh)
        return {
            "seed": seed,
            "accuracy": (real + fake) / 2,
            "accuracy_standard_error": ((real * (1 - real) + fake * (1 - fake)) / count) ** 0.5 / 2,
            "accuracy_real": real,
            "accuracy_fake": fake,
            "judge_updates": judge.updates,
            "judge_samples": number,
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
