"""Counting: how many sequences are different."""

import pytest
import torch

from fairseq_seqvae.metrics.copies import share_of_copies
from fairseq_seqvae.metrics.variety import count_distinct

PAD = 1


def test_padding_does_not_tell_sequences_apart_but_length_and_order_do():
    tokens = torch.tensor([[5, 6, PAD], [5, 6, 7], [5, 6, 9], [6, 5, PAD], [5, 6, 0]])
    mask = torch.tensor([[0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()
    assert count_distinct(tokens, mask).item() == 4  # 5 6 twice


@pytest.mark.parametrize("shape", [(1, 1), (300, 1), (500, 4), (2000, 30)])
@pytest.mark.parametrize("vocab", [2, 5000])
def test_equals_the_size_of_a_set(shape, vocab):
    generator = torch.Generator().manual_seed(shape[1])
    tokens = torch.randint(vocab, shape, generator=generator)
    lengths = torch.randint(1, shape[1] + 1, shape[:1], generator=generator)
    mask = torch.arange(shape[1]) >= lengths.unsqueeze(1)
    different = {tuple(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)}
    assert count_distinct(tokens, mask).item() == len(different)


def test_copies_are_sequences_that_occur_as_a_whole_whatever_stands_behind_their_ends():
    known = torch.tensor([[5, 6, 2, 1], [5, 6, 7, 2]])
    found = torch.tensor([[5, 6, 2], [5, 6, 7], [6, 5, 2], [5, 6, 9]])
    share = share_of_copies(found, torch.tensor([3, 3, 3, 2]), known, torch.tensor([3, 4]))
    assert share == 0.25
