"""Data sets of the task: sequences that are their own target, and draws from the latent space."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairseq.data import Dictionary, FairseqDataset, LanguagePairDataset, StripTokenDataset, data_utils
from torch import Tensor

logger = logging.getLogger(__name__)


def read_split(
    folder: str, split: str, dictionary: Dictionary, dataset_impl: str | None = None, combine: bool = False
) -> Any:
    """The sequences that fairseq-preprocess wrote, each with an EOS at its end, as an indexed data set of fairseq.

    Args:
        folder: where they are
        split: such as "train"
        dictionary: the symbols of the data
        dataset_impl: fairseq's format of the files; None detects it
        combine: add those of further files of the split (train1, train2, ...)

    Raises:
        FileNotFoundError: there is no such split
        ValueError: the split is empty, or cannot be read
    """
    path = os.path.join(folder, split)
    # What fairseq-preprocess --only-source --dataset-impl raw makes of a split.
    if not os.path.exists(path + ".idx") and os.path.isfile(path + ".None-None"):
        path += ".None-None"
    empty = f"split {split!r} in {folder} holds no sentence: was the text file empty?"
    if os.path.exists(path + ".bin") and os.path.getsize(path + ".bin") == 0:
        raise ValueError(empty)
    try:
        tokens = data_utils.load_indexed_dataset(path, dictionary, dataset_impl, combine=combine)
        if tokens is not None and len(tokens):
            tokens[len(tokens) - 1]  # can be read if the file was not cut short
    except Exception as error:  # whichever fairseq's readers raise first
        raise ValueError(
            f"split {split!r} in {folder} cannot be read ({type(error).__name__}: {error}): its .bin or .idx file "
            "was cut short, or another program wrote it; write it again with fairseq-preprocess --only-source."
        ) from error
    if tokens is None:
        found = sorted({name.split(".")[0] for name in os.listdir(folder) if name.endswith(".idx")})
        raise FileNotFoundError(
            f"there is no split {split!r} in {folder} (found: {', '.join(found) or 'none'}): write it with "
            "fairseq-preprocess --only-source, whose --trainpref, --validpref or --testpref names the text."
        )
    if len(tokens) == 0:
        raise ValueError(empty)
    return tokens


class SequenceDataset(LanguagePairDataset):
    """Sequences, each its own target, padded on the right.

    Args:
        tokens: indexed data set, each sequence with an EOS at its end
        sizes: their lengths, EOS included
        dictionary: the symbols of the data
        split: name for messages
        fixed_length: if positive, the EOS is removed and every sequence must have this many tokens
        shuffle: random order among sequences of equal length
        skip_empty: skip sequences that consist of EOS alone
        constraints: words that an output must contain, as fairseq-interactive packs them

    Attributes:
        labels: (N,), of the sequences, where they have such

    Raises:
        ValueError: a sequence does not have the fixed length
    """

    def __init__(
        self,
        tokens: Any,
        sizes: Sequence[int] | np.ndarray,
        dictionary: Dictionary,
        split: str,
        fixed_length: int = 0,
        shuffle: bool = True,
        skip_empty: bool = True,
        constraints: Tensor | None = None,
    ):
        sizes = np.asarray(sizes)
        if fixed_length:
            sizes = sizes - 1
            wrong = np.flatnonzero(sizes != fixed_length)
            if len(wrong):
                raise ValueError(
                    f"--fixed-length {fixed_length}: {len(wrong)} of {len(sizes)} sequences of split {split!r} have "
                    f"another number of tokens (the first is line {wrong[0] + 1} with {sizes[wrong[0]]}): correct the "
                    "data, or omit the flag so that sequences end with EOS."
                )
            tokens = StripTokenDataset(tokens, dictionary.eos())
        super().__init__(
            tokens,
            sizes,
            dictionary,
            tokens,
            sizes,
            dictionary,
            left_pad_source=False,
            left_pad_target=False,
            shuffle=shuffle,
            constraints=constraints,
        )
        self.labels: Tensor | None = None
        self.empty = sizes <= (0 if fixed_length else 1) if skip_empty else np.zeros(len(sizes), dtype=bool)
        if self.empty.any():
            logger.warning(
                f"{self.empty.sum()} empty lines of split {split!r} are skipped (the first is line "
                f"{int(np.flatnonzero(self.empty)[0]) + 1})"
            )

    def collater(self, samples: list[dict[str, Any]], pad_to_length: dict[str, int] | None = None) -> dict[str, Any]:
        """A batch, see :class:`LanguagePairDataset`.

        Raises:
            ValueError: the data has tokens that the dictionary does not have
        """
        batch = super().collater(samples, pad_to_length)
        if batch and int(batch["net_input"]["src_tokens"].max()) >= len(self.src_dict):
            raise ValueError(
                f"the data has tokens beyond the {len(self.src_dict)} symbols of its dictionary: dict.txt is not the "
                "one that fairseq-preprocess wrote; binarise the text again."
            )
        if batch and self.labels is not None:
            batch["net_input"]["labels"] = self.labels[batch["id"]]
        return batch

    def ordered_indices(self) -> np.ndarray:
        """Indices by length, without those of empty sequences.

        Among equal lengths the order is random but always the same. fairseq would seed it by the epoch in which a
        process began and then keep the batches, so a run resumed in a later epoch would continue with other batches.
        """
        with data_utils.numpy_seed(1):
            indices = super().ordered_indices()
        return indices[~self.empty[indices]]


class LatentDataset(FairseqDataset):
    """Sentences without text: the task gives each its latent vector, by its number.

    Args:
        num_draws: how many
        dictionary: the symbols of the data
        expected_length: tokens per sentence, for ``--max-tokens``
        empty_targets: give each the empty sentence as its target, since fairseq asks scorers only where there is one
    """

    def __init__(self, num_draws: int, dictionary: Dictionary, expected_length: int, empty_targets: bool = False):
        self.num_draws = num_draws
        self.dictionary = dictionary
        self.expected_length = expected_length
        self.empty_targets = empty_targets
        self.sizes = np.full(num_draws, expected_length)

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return self.num_draws

    def num_tokens(self, index: int) -> int:
        """Expected number of tokens, for batching."""
        return self.sizes[index]

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """Expected numbers of tokens, for batching."""
        return self.sizes[indices]

    def size(self, index: int) -> int:
        """Length of the source, which is an EOS."""
        return 1

    def filter_indices_by_size(self, indices: np.ndarray, max_sizes: Any) -> tuple[np.ndarray, list[int]]:
        """All indices: none is too long."""
        return indices, []

    def batch_by_size(
        self, indices: np.ndarray, max_tokens: int | None = None, max_sentences: int | None = None, **unused: Any
    ) -> list[np.ndarray]:
        """Batches of as many draws as their expected length allows, at least one."""
        limits = [len(indices)]
        if max_tokens is not None:
            limits.append(max_tokens // self.expected_length)
        if max_sentences is not None:
            limits.append(max_sentences)
        size = max(1, min(limits))
        return [np.asarray(indices[i : i + size]) for i in range(0, len(indices), size)]

    def collater(self, samples: list[int]) -> dict[str, Any]:
        """A batch in fairseq's form, with an EOS as the source."""
        if not samples:
            return {}
        ids = torch.tensor(samples, dtype=torch.long)
        empty = ids.new_full((len(samples), 1), self.dictionary.eos())
        return {
            "id": ids,
            "nsentences": len(samples),
            "ntokens": len(samples),
            "net_input": {"src_tokens": empty, "src_lengths": torch.ones_like(ids)},
            "target": empty if self.empty_targets else None,
        }
