"""What the task reads: the dictionary, the splits, and batches besides those of the training."""

import functools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from fairseq import utils
from fairseq.data import Dictionary
from torch import Tensor

from fairseq_seqvae import options
from fairseq_seqvae.core.augmentation import Transposition
from fairseq_seqvae.core.noise import Draws
from fairseq_seqvae.models.dictionaries import PrintableDictionary
from fairseq_seqvae.tasks import run_checks, transposing
from fairseq_seqvae.tasks.config import SeqVAETaskConfig
from fairseq_seqvae.tasks.datasets import LatentDataset, SequenceDataset, read_split
from fairseq_seqvae.tasks.generating import INTERPOLATE, PRIOR, LatentGenerationTask

logger = logging.getLogger(__name__)


class DataTask(LatentGenerationTask):
    """The part of the task that reads splits of the data, and makes batches of them that no iterator makes."""

    def __init__(self, cfg: SeqVAETaskConfig, dictionary: Dictionary):
        super().__init__(cfg, dictionary)
        # Kept in checkpoints, so that fairseq-validate samples no longer sequences than training did.
        self.state.add_factory("longest", lambda: 0)
        self._model: Any = None
        self._learns = False  # or judges: there is a criterion
        self._transposition: Transposition | None = None
        self._held_out: dict[str, Any] | None = None

    @classmethod
    def read_dictionary(cls, folders: Sequence[str]) -> Dictionary:
        """The dictionary of the first of the *folders* of data, whose symbols the others must have, too.

        Raises:
            FileNotFoundError: there is none
            ValueError: it has no symbols, or another folder's has others
        """
        folder, *others = folders
        path = os.path.join(folder, "dict.txt")
        if not os.path.isfile(path):
            hint = "make the folder by fairseq-preprocess --only-source --trainpref train.txt --destdir FOLDER"
            if os.path.isdir(folder) and any(name.startswith("dict.") for name in os.listdir(folder)):
                hint = "it has dictionaries of languages: preprocess without --source-lang and --target-lang"
            raise FileNotFoundError(f"there is no dictionary {path}: {hint}.")
        dictionary = cls.load_dictionary(path)
        if len(dictionary) == dictionary.nspecial:
            raise ValueError(f"the dictionary {path} has no symbols: write it again with fairseq-preprocess.")
        for shard in others:
            other = os.path.join(shard, "dict.txt")
            if os.path.isfile(other) and cls.load_dictionary(other).symbols != dictionary.symbols:
                raise ValueError(f"{other} has other symbols than {path}: preprocess all shards with --srcdict {path}.")
        return dictionary

    @classmethod
    def load_dictionary(cls, filename: str) -> Dictionary:
        """The dictionary in a dict.txt; what is printed of it holds no control characters."""
        return PrintableDictionary.load(filename)

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs) -> None:
        """Load a split of the data, or ``prior`` / ``interpolate``: draws of the latent space."""
        if split in (PRIOR, INTERPOLATE):
            if self._learns:
                raise ValueError(
                    f"split {split!r} has no sentences, it is drawn by fairseq-generate --gen-subset {split}: give a "
                    "split of the data to --train-subset and --valid-subset."
                )
            options.check(self.cfg, SeqVAETaskConfig, gen_subset=split)
            self.datasets[split] = LatentDataset(
                self.cfg.num_draws,
                self.dictionary,
                self.fixed_length or 100,
                run_checks.scores_without_targets(self.cfg),
            )
            return
        read = functools.partial(
            read_split, split=split, dictionary=self.dictionary, dataset_impl=self.cfg.dataset_impl, combine=combine
        )
        folders = utils.split_paths(self.cfg.data)
        folder = folders[(epoch - 1) % len(folders)] if split.startswith("train") else folders[0]
        tokens = read(folder)
        dataset = SequenceDataset(tokens, tokens.sizes, self.dictionary, split, self.fixed_length)
        self.label(dataset, folder, split, combine)
        if dataset.empty.all():
            raise ValueError(f"split {split!r} in {folder} holds empty lines only.")
        if split.startswith("train"):
            if not self.state.longest:
                # Of all shards: samples are compared with the validation data in every epoch, by the same measure.
                shards = [read(shard) for shard in folders]
                sizes = np.concatenate([shard.sizes for shard in shards])
                longest = sizes[sizes <= self.cfg.max_positions].max(initial=1)
                self.state.merge_state_dict({"longest": int(longest)})
            self._warn_of_wide_windows(dataset.src_sizes)
        self.datasets[split] = dataset

    def _warn_of_wide_windows(self, sizes: np.ndarray) -> None:
        widths = getattr(getattr(self._model, "discriminator", None), "widths", None)
        if widths and max(widths) > sizes.max():
            logger.warning(
                f"--disc-widths: the width {max(widths)} is above the longest training sequence ({sizes.max()} "
                "tokens); such windows are filled up with zeros"
            )

    def max_sample_length(self, tokens: Tensor) -> int:
        """Longest sequence that is sampled in training: as long as any in the training data."""
        return self.fixed_length or self.state.longest or tokens.size(1)

    def build_dataset_for_inference(
        self, src_tokens: list[Tensor], src_lengths: Any, constraints: Any = None, **kwargs: Any
    ) -> SequenceDataset:
        """Data set of lines that a user typed; each ends with EOS."""
        for tokens in src_tokens:
            self.warn_of_unknown_symbols(tokens, len(tokens) - 1)
        fixed = self.fixed_length if self.cfg.prompt == "reconstruct" else 0
        return SequenceDataset(
            src_tokens,
            [len(t) for t in src_tokens],
            self.dictionary,
            "input",
            fixed,
            shuffle=False,
            skip_empty=False,
            constraints=constraints,
        )

    def max_positions(self) -> int:
        """Longest sequence, EOS included."""
        return self.cfg.max_positions

    @property
    def source_dictionary(self) -> Dictionary:
        """The one dictionary."""
        return self.dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        """The one dictionary."""
        return self.dictionary

    def training_sequences(self) -> Iterator[Tensor]:
        """The training data, (T,) each, EOS included, of all shards: what is new does not depend on the epoch."""
        split = run_checks.train_subset(self.cfg)
        folders = utils.split_paths(self.cfg.data)
        for folder in folders if split.startswith("train") else folders[:1]:
            tokens = read_split(folder, split, self.dictionary, self.cfg.dataset_impl)
            yield from (tokens[number] for number in range(len(tokens)))

    def held_out_sample(self, number: int, draws: Draws) -> dict[str, Any]:
        """The first *number* sentences of the first `--valid-subset` as one batch, transposed as in training."""
        if self._held_out is None:
            split = run_checks.first_valid_subset(self.cfg)
            if split not in self.datasets:
                self.load_dataset(split)
            dataset = self.dataset(split)
            ids = np.flatnonzero(~dataset.empty)[:number]
            self._held_out = dataset.collater([dataset[int(i)] for i in ids])
        return self._as_in_training(self._held_out, draws)

    def drawn_sample(self, split: str, chances: Tensor, draws: Draws) -> dict[str, Any]:
        """A batch of sentences of *split*, one for each of *chances* (B,) in (0, 1), transposed as in training."""
        if split not in self.datasets:
            self.load_dataset(split)
        dataset = self.dataset(split)
        numbers = np.flatnonzero(~dataset.empty)
        places = (chances.double() * len(numbers)).long().tolist()
        return self._as_in_training(dataset.collater([dataset[int(numbers[place])] for place in places]), draws)

    def _as_in_training(self, sample: dict[str, Any], draws: Draws) -> dict[str, Any]:
        """*sample* on the model's device, transposed."""
        device = next(self._model.parameters()).device
        sample = utils.move_to_cuda(sample, device) if device.type == "cuda" else sample
        return sample if self._transposition is None else transposing.transposed(sample, self._transposition, draws)
