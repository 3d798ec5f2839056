"""Data sets of the task: sequences that are their own target, and draws of the latent space."""

import logging
import os

import numpy as np
import torch
from fairseq.data import FairseqDataset, LanguagePairDataset, StripTokenDataset, data_utils

logger = logging.getLogger(__name__)


def read_split(folder: str, split: str, dictionary, dataset_impl: str | None = None, combine: bool = False):
    """Sequences that fairseq-preprocess has written, each with an EOS at its end.

    Args:
        dataset_impl: fairseq's format of the files; None finds it out
        combine: also those of further files of the split (train1, train2, ...)

    Raises:
        FileNotFoundError: there is no such split
        ValueError: it is empty, or cannot be read
    """
    path = os.path.join(folder, split)
    empty = f"split {split!r} in {folder} holds no sentence: was the text file empty?"
    if os.path.exists(path + ".bin") and os.path.getsize(path + ".bin") == 0:
        raise ValueError(empty)
    try:
        tokens = data_utils.load_indexed_dataset(path, dictionary, dataset_impl, combine=combine)
        if tokens is not None and len(tokens):
            tokens[len(tokens) - 1]  # is there if the file was not cut short
    except Exception as error:  # whatever fairseq's readers stumble over first
        raise ValueError(
            f"split {split!r} in {folder} cannot be read ({type(error).__name__}: {error}): its .bin or .idx file "
            "was cut short, or another program wrote it; write it again with fairseq-preprocess --only-source."
        ) from error
    if tokens is None:
        found = sorted({name.split(".")[0] for name in os.listdir(folder) if name.endswith(".idx")})
        raise FileNotFoundError(
            f"there is no split {split!r} in {folder} (found: {', '.join(found) or 'none'}): write it with "
            f"fairseq-preprocess --only-source, whose --trainpref, --validpref or --testpref "
            "names the text."
        )
    if len(tokens) == 0:
        raise ValueError(empty)
    return tokens


class SequenceDataset(LanguagePairDataset):
    """Sequences, each its own target, padded on the right.

    Args:
        tokens: indexed data set, each sequence with an EOS at its end
        sizes: their lengths, EOS included
        dictionary: fairseq dictionary
        split: name for messages
        fixed_length: if positive, EOS is taken off and every sequence must have this many tokens
        shuffle: random order among sequences of equal length
        skip_empty: leave out sequences that consist of EOS alone
        constraints: words that an output must contain, as fairseq-interactive packs them
    """

    def __init__(
        self,
        tokens,
        sizes,
        dictionary,
        split: str,
        fixed_length: int = 0,
        shuffle: bool = True,
        skip_empty: bool = True,
        constraints=None,
    ):
        sizes = np.asarray(sizes)
        if fixed_length:
            sizes = sizes - 1
            wrong = np.flatnonzero(sizes != fixed_length)
            if len(wrong):
                raise ValueError(
                    f"--fixed-length {fixed_length}: {len(wrong)} of {len(sizes)} sequences of split {split!r} have "
                    f"another number of tokens (the first is line {wrong[0] + 1} with {sizes[wrong[0]]}): correct the "
                    "data or leave the flag away, so that sequences end with EOS."
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
        self.empty = sizes <= (0 if fixed_length else 1) if skip_empty else np.zeros(len(sizes), dtype=bool)
        if self.empty.any():
            logger.warning(
                f"{self.empty.sum()} empty lines of split {split!r} are skipped (the first is line "
                f"{int(np.flatnonzero(self.empty)[0]) + 1})"
            )

    def collater(self, samples, pad_to_length=None):
        """A batch, see :class:`LanguagePairDataset`; ValueError if the dictionary does not reach as far as the data."""
        batch = super().collater(samples, pad_to_length)
        if batch and int(batch["net_input"]["src_tokens"].max()) >= len(self.src_dict):
            raise ValueError(
                f"the data has tokens beyond the {len(self.src_dict)} symbols of its dictionary: dict.txt is not the "
                "one that fairseq-preprocess wrote; binarise the text again."
            )
        return batch

    def ordered_indices(self):
        """Indices by length, without those of empty sequences.

        Among equal lengths the order is random but always the same. fairseq seeds it by the epoch that a process began
        with and then keeps the batches, so that a run resumed in a later epoch would go on with other batches.
        """
        with data_utils.numpy_seed(1):
            indices = super().ordered_indices()
        return indices[~self.empty[indices]]

    def batch_by_size(self, indices, **limits):
        """Batches of indices; fairseq 0.12.3 drops the last one if its size is no multiple of 8, this keeps it."""
        return batches_with_tail(super().batch_by_size, indices, **limits)


class LatentDataset(FairseqDataset):
    """*num_draws* sentences without text: the task gives each its latent vector, by its number.

    Args:
        num_draws: how many
        dictionary: fairseq dictionary
        expected_length: tokens a sentence, for ``--max-tokens``
        empty_targets: give each the empty sentence as its target, since fairseq asks scorers only where there is one
    """

    def __init__(self, num_draws: int, dictionary, expected_length: int, empty_targets: bool = False):
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

    def num_tokens_vec(self, indices):
        """Expected numbers of tokens, for batching."""
        return self.sizes[indices]

    def size(self, index: int) -> int:
        """Length of the source: an EOS."""
        return 1

    def filter_indices_by_size(self, indices, max_sizes):
        """Nothing is too long."""
        return indices, []

    def batch_by_size(self, indices, max_tokens=None, max_sentences=None, **unused):
        """Batches of as many draws as their expected length allows, at least one."""
        limits = [len(indices)]
        if max_tokens is not None:
            limits.append(max_tokens // self.expected_length)
        if max_sentences is not None:
            limits.append(max_sentences)
        size = max(1, min(limits))
        return [np.asarray(indices[i : i + size]) for i in range(0, len(indices), size)]

    def collater(self, samples):
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


def batches_with_tail(batch_by_size, indices, **limits) -> list:
    """Call *batch_by_size*, which cuts *indices* into batches in order, and add what it drops at the end."""
    if len(indices) == 0:
        return []
    batches = list(batch_by_size(indices, **limits))
    kept = sum(len(batch) for batch in batches)
    if kept < len(indices):
        batches.append(np.asarray(indices[kept:]))
    return batches
