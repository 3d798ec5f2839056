"""Choosing tokens from logits by the inverse distribution function."""

import math

import numpy as np
import oracles
import pytest
import torch

from fairseq_seqvae.core.categorical import pick

ALMOST_ZERO = torch.tensor([2.0**-24, 2.0**-25, 1e-12, 1e-30])
ALMOST_ONE = torch.tensor([1 - 2.0**-24, 1 - 2.0**-23, 1 - 2.0**-20])


def grid(n):
    """The centres of n equal cells of (0, 1)."""
    return ((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()


def grid_counts(logits, n=20_000, **options):
    """How often each token is picked over an even grid of uniform numbers, (V,)."""
    parts = grid(n).split(500)
    tokens = torch.cat([pick(logits.unsqueeze(0).expand(len(part), -1), part, **options) for part in parts])
    return torch.bincount(tokens, minlength=logits.numel())


def assert_shares(logits, probs, **options):
    """An inverse distribution function gives each token one interval: its count on a grid is exact up to its ends."""
    n = 10_000 if len(probs) < 1000 else 2000
    counts = grid_counts(logits, n, **options).double()
    probs = torch.tensor(probs, dtype=torch.float64)
    assert counts[probs == 0].sum() == 0
    # One cell for the two ends of the interval, and the rounding of a float32 sum over V numbers, a random walk.
    allowed = 1 + n * 8 * math.sqrt(probs.numel()) * 2.0**-24
    assert (counts - n * probs).abs().max() <= allowed


def random_logits(vocab, scale=2.0, seed=0):
    return scale * torch.randn(vocab, generator=torch.Generator().manual_seed(seed))


class TestDistribution:
    def test_by_hand(self):
        # Odds 5 : 3 : 2 and a thousand cells.
        counts = grid_counts(torch.tensor([0.5, 0.3, 0.2]).log(), 1000)
        assert (counts - torch.tensor([500, 300, 200])).abs().max() <= 1

    @pytest.mark.parametrize("vocab", [1, 2, 3, 90, 5000])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
    def test_shares_are_the_softmax(self, vocab, scale):
        logits = random_logits(vocab, scale)
        assert_shares(logits, oracles.softmax(logits.tolist()))

    @pytest.mark.parametrize("vocab", [2, 90, 5000])
    def test_chi_square_with_random_uniforms(self, vocab):
        logits, n = random_logits(vocab), 40_000
        draws = torch.rand(n, generator=torch.Generator().manual_seed(1)).clamp(min=1e-7)
        tokens = torch.cat([pick(logits.expand(len(part), -1), part) for part in draws.split(500)])
        oracles.assert_frequencies(np.bincount(tokens, minlength=vocab), oracles.softmax(logits.tolist()))

    @pytest.mark.parametrize("shift", [-1e4, -100.0, 100.0, 1e4])
    def test_a_constant_added_to_all_logits_changes_nothing(self, shift):
        # Multiples of 1/8 stay exact next to the shift.
        logits = torch.tensor([0.0, 0.5, 1.0, -2.0, 0.125])
        assert torch.equal(grid_counts(logits + shift), grid_counts(logits))

    @pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0])
    def test_temperature_divides_the_logits(self, temperature):
        logits = random_logits(30)
        expected = oracles.truncated_probs(logits.tolist(), temperature)
        assert_shares(logits, expected, temperature=temperature)

    def test_low_temperature_picks_the_likeliest(self):
        logits = torch.tensor([1.0, 3.0, 2.9])
        assert grid_counts(logits, 1000, temperature=1e-3).tolist() == [0, 1000, 0]

    def test_rows_are_picked_independently(self):
        generator = torch.Generator().manual_seed(2)
        logits, draws = torch.randn(40, 11, generator=generator), torch.rand(40, generator=generator)
        whole = pick(logits, draws, top_k=5)
        assert whole.shape == (40,) and whole.dtype == torch.int64
        for row in range(40):
            assert pick(logits[row : row + 1], draws[row : row + 1], top_k=5).item() == whole[row].item()

    @pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"top_p": 0.6}, {"temperature": 0.5}])
    @pytest.mark.parametrize("vocab", [2, 30, 700])
    def test_several_numbers_a_row_are_as_many_single_picks(self, options, vocab):
        generator = torch.Generator().manual_seed(12)
        logits, draws = torch.randn(6, vocab, generator=generator), torch.rand(6, 9, generator=generator)
        together = pick(logits, draws, **options)
        assert together.shape == (6, 9)
        for k in range(9):
            assert torch.equal(together[:, k], pick(logits, draws[:, k], **options))

    def test_is_a_function_of_its_inputs(self):
        logits, draws = random_logits(50).expand(200, -1), grid(200)
        assert torch.equal(pick(logits, draws, top_p=0.9), pick(logits, draws, top_p=0.9))

    @pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.5}])
    def test_inputs_are_not_modified(self, options):
        logits, draws = random_logits(10).repeat(4, 1), grid(4)
        logits_before, draws_before = logits.clone(), draws.clone()
        pick(logits, draws, **options)
        assert torch.equal(logits, logits_before) and torch.equal(draws, draws_before)


class TestImpossibleTokens:
    @pytest.mark.parametrize("forbidden", [float("-inf"), -1e9, -1e4])
    @pytest.mark.parametrize("place", ["first", "last", "both", "all but one"])
    @pytest.mark.parametrize("vocab", [3, 90, 5000])
    def test_are_never_returned_at_the_ends_of_the_unit_interval(self, forbidden, place, vocab):
        generator = torch.Generator().manual_seed(3)
        draws = torch.cat([ALMOST_ZERO, ALMOST_ONE]).repeat(20)
        logits = torch.randn(len(draws), vocab, generator=generator)
        edge = max(1, vocab // 10)
        if place in ("first", "both"):
            logits[:, :edge] = forbidden
        if place in ("last", "both"):
            logits[:, -edge:] = forbidden
        if place == "all but one":
            logits[:, torch.arange(vocab) != vocab // 2] = forbidden
        tokens = pick(logits, draws)
        assert (logits.gather(1, tokens.unsqueeze(1)) > -100).all()

    @pytest.mark.parametrize("options", [{"top_k": 7}, {"top_p": 0.3}, {"top_k": 7, "top_p": 0.3}])
    def test_truncated_tokens_are_never_returned_at_the_ends(self, options):
        logits = random_logits(5000, seed=4)
        draws = torch.cat([ALMOST_ZERO, ALMOST_ONE])
        probs = oracles.truncated_probs(logits.tolist(), **options)
        for token in pick(logits.expand(len(draws), -1), draws, **options).tolist():
            assert probs[token] > 0

    def test_flat_sums_that_fall_short_of_one_are_caught(self):
        # 4,999 equal shares of 1/4999 in float32 do not add up to 1; the last token is forbidden.
        logits = torch.zeros(len(ALMOST_ONE), 5000)
        logits[:, -1] = float("-inf")
        assert (pick(logits, ALMOST_ONE) < 4999).all()

    def test_forbidden_tokens_between_possible_ones_are_skipped(self):
        inf = float("inf")
        logits = torch.tensor([-inf, 0.0, -inf, -inf, 0.0, -inf])
        assert_shares(logits, [0, 0.5, 0, 0, 0.5, 0])

    def test_more_candidates_asked_for_than_possible(self):
        logits = torch.tensor([-float("inf"), 0.0, -float("inf"), 0.0])
        assert_shares(logits, [0, 0.5, 0, 0.5], top_k=3)
        assert_shares(logits, [0, 0.5, 0, 0.5], top_p=0.99)


class TestTopK:
    @pytest.mark.parametrize("k", [1, 2, 5, 29, 30])
    def test_keeps_exactly_the_k_likeliest(self, k):
        logits = random_logits(30, seed=5)
        assert_shares(logits, oracles.truncated_probs(logits.tolist(), top_k=k), top_k=k)

    def test_beyond_the_vocabulary_keeps_all(self):
        logits = random_logits(4, seed=6)
        assert_shares(logits, oracles.softmax(logits.tolist()), top_k=100)

    def test_one_is_the_likeliest_token(self):
        generator = torch.Generator().manual_seed(7)
        logits, draws = torch.randn(50, 90, generator=generator), torch.rand(50, generator=generator)
        assert torch.equal(pick(logits, draws, top_k=1), logits.argmax(dim=1))

    def test_ties_do_not_let_in_more_than_k(self):
        counts = grid_counts(torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0]), 1000, top_k=2)
        assert counts[3] == 0 and (counts > 0).sum() == 2
        assert (counts[counts > 0] - 500).abs().max() <= 1

    def test_the_temperature_acts_within_the_k(self):
        logits = random_logits(30, seed=8)
        expected = oracles.truncated_probs(logits.tolist(), temperature=2.0, top_k=4)
        assert_shares(logits, expected, temperature=2.0, top_k=4)


class TestTopP:
    @pytest.mark.parametrize(
        "p, kept", [(0.1, [0]), (0.49, [0]), (0.51, [0, 1]), (0.79, [0, 1]), (0.81, [0, 1, 2]), (0.96, [0, 1, 2, 3])]
    )
    def test_includes_the_token_that_crosses_the_mass(self, p, kept):
        probs = [0.5, 0.3, 0.15, 0.05]
        mass = sum(probs[i] for i in kept)
        expected = [probs[i] / mass if i in kept else 0.0 for i in range(4)]
        assert_shares(torch.tensor(probs).log(), expected, top_p=p)

    def test_order_of_the_vocabulary_does_not_matter(self):
        probs = torch.tensor([0.05, 0.5, 0.15, 0.3])
        assert_shares(probs.log(), [0, 0.625, 0, 0.375], top_p=0.6)

    @pytest.mark.parametrize("vocab", [2, 90, 5000])
    @pytest.mark.parametrize("p", [0.001, 0.35, 0.9, 0.999])
    def test_equals_the_loop(self, vocab, p):
        logits = random_logits(vocab, seed=9)
        assert_shares(logits, oracles.truncated_probs(logits.tolist(), top_p=p), top_p=p)

    @pytest.mark.parametrize("p", [0.0, 1.0])
    def test_ends_of_its_range_keep_all(self, p):
        logits = random_logits(30, seed=10)
        assert_shares(logits, oracles.softmax(logits.tolist()), top_p=p)

    def test_ties_keep_the_smallest_set(self):
        counts = grid_counts(torch.zeros(8), 1000, top_p=0.3)
        # Three of eight equal tokens reach 0.375; two reach 0.25.
        assert (counts > 0).sum() == 3
        assert (counts[counts > 0] - 1000 / 3).abs().max() <= 1

    def test_the_mass_is_that_after_the_temperature(self):
        logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
        for temperature in (0.5, 4.0):
            expected = oracles.truncated_probs(logits.tolist(), temperature=temperature, top_p=0.6)
            assert_shares(logits, expected, temperature=temperature, top_p=0.6)

    def test_with_top_k_the_smaller_set_wins(self):
        logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
        assert_shares(logits, [0.625, 0.375, 0, 0], top_k=2, top_p=0.99)
        assert_shares(logits, [1.0, 0, 0, 0], top_k=3, top_p=0.2)


class TestHalfPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("vocab", [2, 90, 5000])
    @pytest.mark.parametrize("options", [{}, {"temperature": 0.5}])
    def test_sums_are_made_in_float32(self, dtype, vocab, options):
        # A sum over 5,000 shares in half precision stands still long before it reaches 1.
        logits = random_logits(vocab, scale=0.5, seed=11).to(dtype)
        assert_shares(logits, oracles.truncated_probs(logits.tolist(), **options), **options)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_truncation_works(self, dtype):
        logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().to(dtype)
        for options in ({"top_k": 2}, {"top_p": 0.6}, {"top_k": 3, "top_p": 0.9}):
            assert_shares(logits, oracles.truncated_probs(logits.tolist(), **options), **options)

    def test_forbidden_tokens_are_never_returned(self):
        logits = torch.zeros(len(ALMOST_ONE), 300, dtype=torch.float16)
        logits[:, 200:] = float("-inf")
        logits[:, :100] = -65504.0
        for draws in (ALMOST_ZERO[: len(ALMOST_ONE)], ALMOST_ONE):
            tokens = pick(logits, draws)
            assert ((tokens >= 100) & (tokens < 200)).all()


class TestErrors:
    @pytest.mark.parametrize("temperature", [0.0, -1.0])
    def test_temperature_must_be_positive(self, temperature):
        with pytest.raises(ValueError, match=f"temperature.*{temperature}"):
            pick(torch.zeros(1, 3), torch.tensor([0.5]), temperature=temperature)

    def test_top_k_must_not_be_negative(self):
        with pytest.raises(ValueError, match="top_k.*-1"):
            pick(torch.zeros(1, 3), torch.tensor([0.5]), top_k=-1)

    @pytest.mark.parametrize("top_p", [-0.1, 1.5])
    def test_top_p_must_be_a_probability(self, top_p):
        with pytest.raises(ValueError, match=f"top_p.*{top_p}"):
            pick(torch.zeros(1, 3), torch.tensor([0.5]), top_p=top_p)


def test_share_of_a_token_far_below_the_grid_is_kept_right():
    """A rare token of probability 1e-4 is drawn as often as it should be."""
    logits = torch.tensor([0.0, math.log(1e-4)])
    n = 200_000
    counts = grid_counts(logits, n)
    assert abs(counts[1].item() - n * 1e-4 / 1.0001) <= 1 + n * 2.0**-23
