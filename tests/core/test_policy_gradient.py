"""Rewarded positions, returns, baselines, the loss and the entropy."""

import itertools
import math

import oracles
import pytest
import torch

from fairseq_seqvae.core.policy_gradient.reinforce import (
    Credit,
    absorb_end,
    advantages,
    policy_gradient_loss,
    policy_terms,
    token_entropy,
    token_returns,
)
from fairseq_seqvae.core.rollouts.rollout import reward_positions

SHAPES = [(1, 1), (1, 6), (5, 1), (4, 7), (9, 20)]
STRIDES = [1, 2, 3, 25]


class Batch:
    """Random rewards and log-probabilities of sequences of different lengths, the first one of full length."""

    def __init__(self, shape, seed=0, lengths=None):
        generator = torch.Generator().manual_seed(seed)
        if lengths is None:
            lengths = torch.randint(1, shape[1] + 1, shape[:1], generator=generator)
            lengths[0] = shape[1]
        self.lengths = torch.as_tensor(lengths)
        self.padding_mask = torch.arange(shape[1]) >= self.lengths.unsqueeze(1)
        self.values = torch.rand(shape, generator=generator)
        self.log_probs = (-3 * torch.rand(shape, generator=generator)).masked_fill(self.padding_mask, 0.0)

    def positions(self, stride):
        """Written with the slow version, so that each function is tested alone."""
        positions = torch.zeros_like(self.padding_mask)
        for row, length in enumerate(self.lengths.tolist()):
            positions[row, oracles.rewarded_positions(length, stride)] = True
        return positions


class TestRewardPositions:
    def test_by_hand(self):
        positions = reward_positions(torch.tensor([5, 4, 1, 2]), 5, 2)
        assert positions.dtype == torch.bool
        assert positions.int().tolist() == [[0, 1, 0, 1, 1], [0, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("stride", STRIDES)
    def test_equals_the_loop(self, shape, stride):
        batch = Batch(shape)
        assert torch.equal(reward_positions(batch.lengths, shape[1], stride), batch.positions(stride))

    @pytest.mark.parametrize("stride", range(1, 12))
    def test_a_row_has_length_over_stride_rewards_rounded_up(self, stride):
        lengths = torch.arange(1, 11)
        expected = [math.ceil(length / stride) for length in range(1, 11)]
        assert reward_positions(lengths, 13, stride).sum(dim=1).tolist() == expected

    def test_stride_one_rewards_every_token(self):
        assert reward_positions(torch.tensor([3, 1]), 3, 1).int().tolist() == [[1, 1, 1], [1, 0, 0]]

    @pytest.mark.parametrize("stride", [0, -2])
    def test_stride_below_one_is_refused(self, stride):
        with pytest.raises(ValueError, match=f"stride.*{stride}"):
            reward_positions(torch.tensor([3]), 3, stride)


class TestTokenReturns:
    def test_by_hand(self):
        rewards = torch.tensor([[9.0, 1.0, 9.0, 2.0, 4.0]])
        positions = torch.tensor([[False, True, False, True, True]])
        mask = torch.zeros(1, 5, dtype=torch.bool)
        assert token_returns(rewards, positions, mask, credit="step").tolist() == [[1, 1, 2, 2, 4]]
        assert token_returns(rewards, positions, mask, credit="to-go").tolist() == [[7, 7, 6, 6, 4]]

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("stride", STRIDES)
    @pytest.mark.parametrize("credit", ["step", "to-go"])
    def test_equals_the_loop(self, shape, stride, credit):
        batch = Batch(shape, seed=1)
        result = token_returns(batch.values, batch.positions(stride), batch.padding_mask, credit=credit)
        rewarded = [set(oracles.rewarded_positions(length, stride)) for length in batch.lengths.tolist()]
        expected = oracles.token_returns(batch.values.tolist(), rewarded, batch.lengths.tolist(), credit)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, torch.tensor(expected))

    @pytest.mark.parametrize("credit", ["step", "to-go"])
    def test_padding_is_zero_whatever_lies_under_it(self, credit):
        batch = Batch((3, 5), lengths=[5, 2, 1])
        rewards = batch.values.masked_fill(batch.padding_mask, 1e6)
        result = token_returns(rewards, batch.positions(2), batch.padding_mask, credit=credit)
        clean = token_returns(batch.values, batch.positions(2), batch.padding_mask, credit=credit)
        assert result[batch.padding_mask].abs().max() == 0
        torch.testing.assert_close(result, clean)

    @pytest.mark.parametrize("credit", ["step", "to-go"])
    def test_more_padding_changes_nothing(self, credit):
        batch, wide = Batch((3, 4), lengths=[4, 2, 1]), Batch((3, 9), lengths=[4, 2, 1])
        wide.values[:, :4] = batch.values
        narrow = token_returns(batch.values, batch.positions(3), batch.padding_mask, credit=credit)
        result = token_returns(wide.values, wide.positions(3), wide.padding_mask, credit=credit)
        torch.testing.assert_close(result[:, :4], narrow)
        assert result[:, 4:].abs().max() == 0

    @pytest.mark.parametrize("credit", ["step", "to-go"])
    def test_unrewarded_values_are_ignored(self, credit):
        batch = Batch((2, 6), lengths=[6, 5])
        positions = batch.positions(3)
        noisy = torch.where(positions, batch.values, torch.full_like(batch.values, float("nan")))
        torch.testing.assert_close(
            token_returns(noisy, positions, batch.padding_mask, credit=credit),
            token_returns(batch.values, positions, batch.padding_mask, credit=credit),
        )

    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_single_reward_at_the_end_is_everybodys_return(self, shape):
        batch = Batch(shape, seed=2)
        last = batch.values.gather(1, (batch.lengths - 1).unsqueeze(1))
        for credit in ("step", "to-go"):
            result = token_returns(batch.values, batch.positions(99), batch.padding_mask, credit=credit)
            torch.testing.assert_close(result, last.expand(shape).masked_fill(batch.padding_mask, 0.0))

    def test_inputs_are_not_modified(self):
        batch = Batch((3, 5))
        values, positions = batch.values.clone(), batch.positions(2)
        before = positions.clone()
        token_returns(batch.values, positions, batch.padding_mask, credit="to-go")
        assert torch.equal(batch.values, values) and torch.equal(positions, before)

    def test_unknown_credit_is_named(self):
        batch = Batch((1, 2))
        with pytest.raises(ValueError, match="credit.*td|td.*credit"):
            token_returns(batch.values, batch.positions(1), batch.padding_mask, credit="td")

    def test_wrong_shape_is_named(self):
        batch = Batch((2, 3))
        with pytest.raises(ValueError, match=r"padding_mask.*\(3, 2\)"):
            token_returns(batch.values, batch.positions(1), batch.padding_mask.T)
        with pytest.raises(ValueError, match=r"positions.*\(3, 2\)"):
            token_returns(batch.values, batch.positions(1).T, batch.padding_mask)


class TestAdvantages:
    def test_by_hand(self):
        returns = torch.tensor([[1.0, 5.0, 9.0], [2.0, 1.0, 0.0], [6.0, 0.0, 0.0]])
        mask = torch.tensor([[False, False, False], [False, False, True], [False, True, True]])
        assert torch.equal(advantages(returns, mask), returns)
        assert advantages(returns, mask, baseline="mean").tolist() == [[-2, 2, 0], [-1, -2, 0], [3, 0, 0]]
        expected = [[-3.0, 4, 0], [-1.5, -4, 0], [4.5, 0, 0]]
        assert advantages(returns, mask, baseline="leave-one-out").tolist() == expected

    def test_normalize_by_hand(self):
        # Squares 9, 1, 4, 2 over four tokens: root mean square 2.
        returns = torch.tensor([[3.0, 1.0], [2.0, 2.0**0.5]])
        result = advantages(returns, torch.zeros(2, 2, dtype=torch.bool), normalize=True)
        torch.testing.assert_close(result, returns / 2)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("baseline", ["none", "mean", "leave-one-out"])
    @pytest.mark.parametrize("normalize", [False, True])
    def test_equals_the_loop(self, shape, baseline, normalize):
        batch = Batch(shape, seed=3)
        returns = batch.values.masked_fill(batch.padding_mask, 0.0)
        result = advantages(returns, batch.padding_mask, baseline=baseline, normalize=normalize)
        expected = oracles.advantages(returns.tolist(), batch.lengths.tolist(), baseline, normalize)
        torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("baseline", ["none", "mean", "leave-one-out"])
    @pytest.mark.parametrize("normalize", [False, True])
    def test_padding_does_not_count_and_stays_zero(self, baseline, normalize):
        batch = Batch((4, 6), seed=4)
        clean = batch.values.masked_fill(batch.padding_mask, 0.0)
        dirty = batch.values.masked_fill(batch.padding_mask, 77.0)
        result = advantages(dirty, batch.padding_mask, baseline=baseline, normalize=normalize)
        torch.testing.assert_close(result, advantages(clean, batch.padding_mask, baseline, normalize))
        assert result[batch.padding_mask].abs().max() == 0

    @pytest.mark.parametrize("baseline", ["none", "mean", "leave-one-out"])
    @pytest.mark.parametrize("normalize", [False, True])
    def test_more_padding_changes_nothing(self, baseline, normalize):
        batch = Batch((4, 6), seed=5)
        returns = batch.values.masked_fill(batch.padding_mask, 0.0)
        wide = torch.cat([returns, torch.zeros(4, 3)], dim=1)
        wide_mask = torch.cat([batch.padding_mask, torch.ones(4, 3, dtype=torch.bool)], dim=1)
        result = advantages(wide, wide_mask, baseline=baseline, normalize=normalize)
        torch.testing.assert_close(result[:, :6], advantages(returns, batch.padding_mask, baseline, normalize))

    def test_mean_baseline_takes_the_mean_away_at_every_position(self):
        batch = Batch((6, 5), seed=6)
        result = advantages(batch.values, batch.padding_mask, baseline="mean")
        assert result.sum(dim=0).abs().max() < 1e-5

    def test_normalized_advantages_have_unit_root_mean_square(self):
        batch = Batch((6, 5), seed=7)
        for baseline in ("none", "mean", "leave-one-out"):
            result = advantages(batch.values * 1e-3, batch.padding_mask, baseline=baseline, normalize=True)
            real = result[~batch.padding_mask]
            assert real.square().mean().item() == pytest.approx(1, rel=1e-4)

    def test_normalizing_keeps_the_mean(self):
        # Division alone: no centring, so that positive returns without baseline stay positive.
        batch = Batch((6, 5), seed=8)
        result = advantages(batch.values, batch.padding_mask, baseline="none", normalize=True)
        assert (result[~batch.padding_mask] > 0).all()

    @pytest.mark.parametrize("baseline", ["mean", "leave-one-out"])
    @pytest.mark.parametrize("normalize", [False, True])
    @pytest.mark.parametrize("rows", [2, 3, 7, 48, 3000])
    def test_equal_rewards_teach_nothing(self, baseline, normalize, rows):
        # 0.1, 0.7 and 1/3 have no exact sum in float32: what rounding leaves must not be blown up to size one.
        for reward in (0.5, 0.1, 0.7, 1 / 3, 123.4):
            returns = torch.full((rows, 4), reward)
            result = advantages(returns, torch.zeros(rows, 4, dtype=torch.bool), baseline, normalize)
            assert result.abs().max() < 1e-6 * max(1.0, reward), f"reward {reward}"

    @pytest.mark.parametrize("baseline", ["mean", "leave-one-out"])
    @pytest.mark.parametrize("normalize", [False, True])
    def test_a_row_alone_gets_zero(self, baseline, normalize):
        single = advantages(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2, dtype=torch.bool), baseline, normalize)
        assert single.tolist() == [[0.0, 0.0]]
        mask = torch.tensor([[False, False], [False, True]])
        result = advantages(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), mask, baseline, normalize)
        assert result[:, 1].tolist() == [0.0, 0.0] and result[0, 0] > 0

    def test_without_baseline_a_row_alone_keeps_its_return(self):
        assert advantages(torch.tensor([[3.0]]), torch.zeros(1, 1, dtype=torch.bool)).tolist() == [[3.0]]

    def test_zero_advantages_stay_zero_when_normalized(self):
        mask = torch.zeros(3, 2, dtype=torch.bool)
        for baseline in ("none", "mean", "leave-one-out"):
            assert advantages(torch.zeros(3, 2), mask, baseline, normalize=True).tolist() == [[0.0] * 2] * 3

    def test_leave_one_out_baseline_does_not_move_with_the_rows_own_reward(self):
        batch = Batch((5, 4), seed=9)
        before = advantages(batch.values, batch.padding_mask, baseline="leave-one-out")
        changed = batch.values.clone()
        changed[2] += 10.0
        after = advantages(changed, batch.padding_mask, baseline="leave-one-out")
        alive = (~batch.padding_mask).sum(dim=0)
        seen = ~batch.padding_mask[2] & (alive > 1)
        # Its advantage grows by exactly what its reward grew by; the others see it through their baseline.
        torch.testing.assert_close((after - before)[2][seen], torch.full((int(seen.sum()),), 10.0))

    def test_leave_one_out_is_unbiased_and_mean_is_not(self):
        """Exact expectation over all outcomes of two rows with three actions each."""
        logits = torch.tensor([0.3, -0.2, 0.9], dtype=torch.float64)
        reward = torch.tensor([1.0, 4.0, -2.0], dtype=torch.float64)
        probs = torch.tensor(oracles.softmax(logits.tolist()), dtype=torch.float64)
        # d/dlogits E[reward] = p (reward - E[reward]).
        truth = probs * (reward - (probs * reward).sum())
        mask = torch.zeros(2, 1, dtype=torch.bool)
        expectation = {"none": torch.zeros(3), "leave-one-out": torch.zeros(3), "mean": torch.zeros(3)}
        for actions in itertools.product(range(3), repeat=2):
            weight = (probs[actions[0]] * probs[actions[1]]).item()
            returns = torch.tensor([[reward[a].item()] for a in actions])
            for baseline in expectation:
                parameters = logits.float().clone().requires_grad_()
                log_probs = torch.log_softmax(parameters, dim=0)[list(actions)].unsqueeze(1)
                policy_gradient_loss(log_probs, advantages(returns, mask, baseline)).mean(dim=0).backward()
                expectation[baseline] = expectation[baseline] - weight * parameters.grad
        torch.testing.assert_close(expectation["none"].double(), truth, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(expectation["leave-one-out"].double(), truth, rtol=1e-4, atol=1e-5)
        # A baseline that contains the row's own reward shrinks the gradient by (B - 1) / B.
        torch.testing.assert_close(expectation["mean"].double(), truth / 2, rtol=1e-4, atol=1e-5)

    def test_rows_may_come_in_any_order(self):
        batch = Batch((5, 4), seed=10)
        order = torch.tensor([3, 0, 4, 1, 2])
        for baseline in ("mean", "leave-one-out"):
            whole = advantages(batch.values, batch.padding_mask, baseline)
            torch.testing.assert_close(
                advantages(batch.values[order], batch.padding_mask[order], baseline), whole[order]
            )

    def test_input_is_not_modified(self):
        batch = Batch((3, 4))
        before = batch.values.clone()
        advantages(batch.values, batch.padding_mask, "mean", normalize=True)
        assert torch.equal(batch.values, before)

    def test_a_time_first_mask_is_refused(self):
        # With T = 1 it would be broadcast to (B, B) without a word.
        with pytest.raises(ValueError, match=r"padding_mask.*\(1, 4\)"):
            advantages(torch.ones(4, 1), torch.zeros(1, 4, dtype=torch.bool), baseline="mean")

    def test_unknown_baseline_is_named(self):
        batch = Batch((1, 2))
        with pytest.raises(ValueError, match="baseline.*critic|critic.*baseline"):
            advantages(batch.values, batch.padding_mask, baseline="critic")


class TestPolicyGradientLoss:
    def test_by_hand(self):
        loss = policy_gradient_loss(torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]), torch.tensor([[2.0, 0.5], [-1.0, 0.0]]))
        assert loss.tolist() == [3.0, -3.0]

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("stride", STRIDES)
    def test_reward_to_go_is_the_prefix_weighted_loss_of_seqvae(self, shape, stride):
        batch = Batch(shape, seed=11)
        returns = token_returns(batch.values, batch.positions(stride), batch.padding_mask, credit="to-go")
        loss = policy_gradient_loss(batch.log_probs, returns)
        expected = oracles.prefix_weighted_loss(
            batch.log_probs.tolist(), batch.values.tolist(), batch.lengths.tolist(), stride
        )
        torch.testing.assert_close(loss, torch.tensor(expected), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("stride", STRIDES)
    def test_step_credit_is_the_segment_loss(self, shape, stride):
        batch = Batch(shape, seed=12)
        returns = token_returns(batch.values, batch.positions(stride), batch.padding_mask, credit="step")
        loss = policy_gradient_loss(batch.log_probs, returns)
        expected = oracles.segment_loss(batch.log_probs.tolist(), batch.values.tolist(), batch.lengths.tolist(), stride)
        torch.testing.assert_close(loss, torch.tensor(expected), rtol=1e-4, atol=1e-5)

    def test_gradient_is_minus_the_advantage(self):
        batch = Batch((3, 5), seed=13)
        log_probs = batch.log_probs.clone().requires_grad_()
        policy_gradient_loss(log_probs, batch.values).sum().backward()
        torch.testing.assert_close(log_probs.grad, -batch.values)

    def test_no_gradient_reaches_the_rewards(self):
        batch = Batch((3, 5), seed=14)
        values, log_probs = batch.values.clone().requires_grad_(), batch.log_probs.clone().requires_grad_()
        returns = token_returns(values, batch.positions(2), batch.padding_mask, credit="to-go")
        weights = advantages(returns, batch.padding_mask, baseline="leave-one-out", normalize=True)
        policy_gradient_loss(log_probs, weights).sum().backward()
        assert values.grad is None and log_probs.grad is not None

    def test_one_value_a_sequence_even_for_one_row_and_one_token(self):
        assert policy_gradient_loss(torch.tensor([[-1.0]]), torch.tensor([[2.0]])).shape == (1,)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_gives_float32(self, dtype):
        loss = policy_gradient_loss(torch.full((2, 300), -9.0, dtype=dtype), torch.full((2, 300), 30.0, dtype=dtype))
        # 300 * 270 is beyond float16.
        assert loss.dtype == torch.float32 and loss.tolist() == [81_000.0, 81_000.0]

    def test_wrong_shape_is_named(self):
        with pytest.raises(ValueError, match=r"advantages.*\(3, 2\)"):
            policy_gradient_loss(torch.zeros(2, 3), torch.zeros(3, 2))


class TestTokenEntropy:
    def test_by_hand(self):
        logits = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [math.log(2), 0.0, 0.0, -1e9], [3.0, -1e9, -1e9, -1e9]]])
        expected = [math.log(4), 0.5 * math.log(2) + 0.5 * math.log(4), 0.0]
        result = token_entropy(logits, torch.zeros(1, 3, dtype=torch.bool))
        torch.testing.assert_close(result, torch.tensor([expected]))

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("vocab", [1, 2, 50])
    def test_equals_the_loop(self, shape, vocab):
        batch = Batch(shape, seed=15)
        logits = 2 * torch.randn(*shape, vocab, generator=torch.Generator().manual_seed(15))
        result = token_entropy(logits, batch.padding_mask)
        expected = [
            [oracles.entropy(oracles.softmax(logits[b, t].tolist())) if t < length else 0.0 for t in range(shape[1])]
            for b, length in enumerate(batch.lengths.tolist())
        ]
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-4, atol=1e-5)

    def test_lies_between_zero_and_the_logarithm_of_the_vocabulary(self):
        logits = 20 * torch.randn(4, 6, 9, generator=torch.Generator().manual_seed(16))
        result = token_entropy(logits, torch.zeros(4, 6, dtype=torch.bool))
        assert result.min() >= -1e-6 and result.max() <= math.log(9) + 1e-5

    def test_impossible_tokens_add_nothing(self):
        logits = torch.tensor([[[0.0, 0.0, float("-inf")]]], requires_grad=True)
        result = token_entropy(logits, torch.zeros(1, 1, dtype=torch.bool))
        assert result.item() == pytest.approx(math.log(2))
        result.sum().backward()
        assert torch.isfinite(logits.grad).all()

    def test_padding_is_zero_and_gets_no_gradient(self):
        logits = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(17)).requires_grad_()
        result = token_entropy(logits, torch.tensor([[False, True]]))
        assert result[0, 1] == 0
        result.sum().backward()
        assert logits.grad[0, 1].abs().max() == 0 and logits.grad[0, 0].abs().max() > 0

    def test_a_time_first_mask_is_refused(self):
        with pytest.raises(ValueError, match=r"padding_mask.*\(1, 4\)"):
            token_entropy(torch.zeros(4, 1, 5), torch.zeros(1, 4, dtype=torch.bool))

    def test_half_precision_gives_float32(self):
        logits = torch.zeros(1, 1, 5000, dtype=torch.float16)
        result = token_entropy(logits, torch.zeros(1, 1, dtype=torch.bool))
        assert result.dtype == torch.float32 and result.item() == pytest.approx(math.log(5000), rel=1e-5)


class TestAbsorbEnd:
    def test_by_hand(self):
        # stride 2, width 7: rewards at 2, 4, 6, 7 of a full row; the second row ends at 3, the third at 4.
        rewards = torch.tensor([[0, 1, 0, 2, 0, 3, 4], [0, 5, 6, 0, 0, 0, 0], [0, 7, 0, 8, 0, 0, 0]]).float()
        lengths = torch.tensor([7, 3, 4])
        result, positions = absorb_end(rewards, reward_positions(lengths, 7, 2), lengths, 2)
        assert result.tolist() == [[0, 1, 0, 2, 0, 3, 4], [0, 5, 6, 0, 0, 6, 6], [0, 7, 0, 8, 0, 8, 8]]
        assert torch.equal(positions, result > 0)
        assert positions.sum(dim=1).tolist() == [4, 4, 4]

    @pytest.mark.parametrize("stride", [1, 2, 3, 10])
    def test_sequences_of_equal_worth_earn_alike_however_long_they_are(self, stride):
        lengths = torch.tensor([1, 2, 5, 9, 10])
        positions = reward_positions(lengths, 10, stride)
        result, positions = absorb_end(positions.float() * 0.5, positions, lengths, stride)
        returns = token_returns(result, positions, torch.zeros(5, 10, dtype=torch.bool), "to-go")
        assert torch.equal(returns[:, 0], torch.full((5,), 0.5 * -(-10 // stride)))

    def test_full_rows_stay_as_they_are(self):
        rewards = torch.rand(3, 6)
        positions = torch.ones(3, 6, dtype=torch.bool)
        result = absorb_end(rewards, positions, torch.full((3,), 6), 1)
        assert torch.equal(result[0], rewards) and torch.equal(result[1], positions)


class TestPolicyTerms:
    """Two sequences, of two tokens and of one, from uniform distributions over two symbols; worked out by hand."""

    LOG_PROBS = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]])
    REWARDS = torch.tensor([[0.5, 0.25], [1.0, 0.0]])
    PADDING = torch.tensor([[False, False], [False, True]])

    def terms(self, **how):
        logits = torch.zeros(2, 2, 2, requires_grad=True)
        log_probs = self.LOG_PROBS.clone().requires_grad_()
        values = self.REWARDS, ~self.PADDING
        found = policy_terms(log_probs, logits, values, self.PADDING, Credit(stride=1, **how))
        return found, log_probs, logits

    @pytest.mark.parametrize(
        "credit, expected",
        [
            ("step", [0.5 * 1 + 0.25 * 2, 1.0 * 3]),
            # What follows counts too, and the second sequence earns its 1 once more after its end.
            ("to-go", [0.75 * 1 + 0.25 * 2, 2.0 * 3]),
        ],
    )
    def test_loss(self, credit, expected):
        found, log_probs, _ = self.terms(credit=credit)
        assert found.loss.tolist() == pytest.approx(expected)
        found.loss.sum().backward()
        assert torch.equal(log_probs.grad < 0, ~self.PADDING)

    def test_baseline_and_scale_are_passed_on(self):
        # Of two sequences each is the other's baseline at the first token; the second token has no other.
        assert self.terms(baseline="leave-one-out")[0].loss.tolist() == pytest.approx([-0.5 * 1, 0.5 * 3])
        assert self.terms(baseline="leave-one-out", normalize=True)[0].loss.abs().max() > 1.5

    @pytest.mark.parametrize("weight", [0.0, 0.1, -0.1])
    def test_entropy_has_a_gradient_where_it_has_a_weight(self, weight):
        found, _, _ = self.terms(entropy_weight=weight)
        assert found.entropy.tolist() == pytest.approx([2 * math.log(2), math.log(2)])
        assert not found.entropy.requires_grad and found.weighed_entropy.requires_grad == (weight != 0)

    def test_entropy_below_its_floor_has_no_price(self):
        found, _, _ = self.terms(entropy_weight=-0.1, entropy_floor=0.5)
        assert (found.weighed_entropy > 0).all()
        assert not self.terms(entropy_weight=-0.1, entropy_floor=1.0)[0].weighed_entropy.any()
