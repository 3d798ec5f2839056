"""Masks, lengths, cutting, shifting, token log-probabilities."""

import math

import oracles
import pytest
import torch

from fairseq_seqvae.core.rollouts.rollout import cut_after_eos
from fairseq_seqvae.core.sequences import (
    lengths_from_padding,
    padding_mask,
    token_log_probs,
)

EOS, PAD = 2, 1

SHAPES = [(1, 1), (1, 6), (5, 1), (4, 7), (16, 20)]


def random_tokens(shape, vocab=6, seed=0):
    return torch.randint(0, vocab, shape, generator=torch.Generator().manual_seed(seed))


def random_lengths(shape, seed=0):
    return torch.randint(1, shape[1] + 1, shape[:1], generator=torch.Generator().manual_seed(seed))


class TestPaddingMask:
    def test_by_hand(self):
        mask = padding_mask(torch.tensor([3, 1, 2]), 3)
        assert mask.dtype == torch.bool
        assert mask.tolist() == [[False, False, False], [False, True, True], [False, False, True]]

    def test_is_wider_than_the_longest_row_when_asked(self):
        assert padding_mask(torch.tensor([1]), 3).tolist() == [[False, True, True]]

    @pytest.mark.parametrize("shape", SHAPES)
    def test_lengths_come_back(self, shape):
        lengths = random_lengths(shape)
        mask = padding_mask(lengths, shape[1])
        assert mask.shape == shape
        assert torch.equal(lengths_from_padding(mask), lengths)
        assert lengths_from_padding(mask).dtype == torch.int64

    def test_empty_row_is_all_padding(self):
        mask = padding_mask(torch.tensor([0, 2]), 2)
        assert mask.tolist() == [[True, True], [False, False]]
        assert lengths_from_padding(mask).tolist() == [0, 2]


class TestCutAfterEos:
    def test_by_hand(self):
        tokens = torch.tensor([[5, EOS, 4, EOS], [3, 4, 5, 3], [EOS, 3, 3, 3], [3, 4, 5, EOS]])
        cut, lengths, mask = cut_after_eos(tokens, EOS, PAD)
        assert cut.tolist() == [[5, EOS, PAD, PAD], [3, 4, 5, 3], [EOS, PAD, PAD, PAD], [3, 4, 5, EOS]]
        assert lengths.tolist() == [2, 4, 1, 4]

    @pytest.mark.parametrize("shape", SHAPES)
    def test_equals_the_loop(self, shape):
        tokens = random_tokens(shape, seed=1)
        cut, lengths, mask = cut_after_eos(tokens, EOS, PAD)
        expected_tokens, expected_lengths = oracles.cut_after_eos(tokens.tolist(), EOS, PAD)
        assert cut.tolist() == expected_tokens
        assert lengths.tolist() == expected_lengths

    def test_a_second_cut_changes_nothing(self):
        cut, lengths, mask = cut_after_eos(random_tokens((8, 9), seed=2), EOS, PAD)
        again, lengths_again, _ = cut_after_eos(cut, EOS, PAD)
        assert torch.equal(cut, again)
        # Rows without EOS are full rows and stay so.
        assert torch.equal(lengths, lengths_again)

    def test_input_is_not_modified(self):
        tokens = torch.tensor([[EOS, 4, 4]])
        cut_after_eos(tokens, EOS, PAD)
        assert tokens.tolist() == [[EOS, 4, 4]]

    def test_single_token(self):
        cut, lengths, mask = cut_after_eos(torch.tensor([[EOS], [4]]), EOS, PAD)
        assert cut.tolist() == [[EOS], [4]] and lengths.tolist() == [1, 1]


class TestTokenLogProbs:
    def test_by_hand(self):
        # Odds 3 : 1, then 1 : 1.
        logits = torch.tensor([[[math.log(3), 0.0], [5.0, 5.0], [9.0, 0.0]]])
        mask = torch.tensor([[False, False, True]])
        result = token_log_probs(logits, torch.tensor([[0, 1, 1]]), mask)
        torch.testing.assert_close(result, torch.tensor([[math.log(0.75), math.log(0.5), 0.0]]))

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("vocab", [1, 2, 11])
    def test_equals_the_loop(self, shape, vocab):
        logits = 3 * torch.randn(*shape, vocab, generator=torch.Generator().manual_seed(4))
        tokens, lengths = random_tokens(shape, vocab, seed=4), random_lengths(shape, seed=4)
        mask = torch.arange(shape[1]) >= lengths.unsqueeze(1)
        result = token_log_probs(logits, tokens, mask)
        expected = oracles.token_log_probs(logits.tolist(), tokens.tolist(), lengths.tolist())
        torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-4, atol=1e-5)

    def test_probabilities_of_all_tokens_add_up_to_one(self):
        logits = torch.randn(1, 1, 7, generator=torch.Generator().manual_seed(5)).expand(7, 1, 7)
        tokens = torch.arange(7).unsqueeze(1)
        result = token_log_probs(logits, tokens, torch.zeros(7, 1, dtype=torch.bool))
        assert result.exp().sum().item() == pytest.approx(1, abs=1e-6)

    def test_padding_is_exactly_zero_whatever_lies_under_it(self):
        logits = torch.zeros(2, 3, 4)
        logits[:, 2] = float("nan")
        logits[:, 1, 3] = float("-inf")
        mask = torch.tensor([[False, True, True], [False, True, True]])
        result = token_log_probs(logits, torch.tensor([[0, 3, 3], [1, 3, 2]]), mask)
        assert result[:, 1:].tolist() == [[0.0, 0.0], [0.0, 0.0]]

    def test_gradient_at_padding_is_zero(self):
        logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(6)).requires_grad_()
        mask = torch.tensor([[False, False, True], [False, True, True]])
        token_log_probs(logits, torch.zeros(2, 3, dtype=torch.long), mask).sum().backward()
        assert logits.grad[mask].abs().max() == 0
        assert (logits.grad[~mask].abs().sum(dim=-1) > 0).all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_gives_float32(self, dtype):
        logits = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(7)).to(dtype)
        tokens, mask = random_tokens((2, 3), 50, seed=7), torch.zeros(2, 3, dtype=torch.bool)
        result = token_log_probs(logits, tokens, mask)
        assert result.dtype == torch.float32
        expected = oracles.token_log_probs(logits.tolist(), tokens.tolist(), [3, 3])
        torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-5, atol=1e-5)

    def test_more_padding_changes_nothing(self):
        logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(8))
        tokens, mask = random_tokens((2, 5), 4, seed=8), torch.tensor([[False] * 3 + [True] * 2] * 2)
        narrow = token_log_probs(logits[:, :3], tokens[:, :3], mask[:, :3])
        assert torch.equal(token_log_probs(logits, tokens, mask)[:, :3], narrow)

    def test_time_first_tokens_are_refused(self):
        # As many numbers, so that a view would go through and give every token the logits of another one.
        with pytest.raises(ValueError, match=r"tokens.*\(3, 2\)"):
            token_log_probs(torch.zeros(2, 3, 4), torch.zeros(3, 2, dtype=torch.long), torch.zeros(3, 2).bool())

    def test_a_time_first_mask_is_refused(self):
        with pytest.raises(ValueError, match=r"mask.*\(1, 4\)"):
            token_log_probs(torch.zeros(4, 1, 5), torch.zeros(4, 1, dtype=torch.long), torch.zeros(1, 4).bool())
