"""Losses of the policy besides REINFORCE, and the diversity filter."""

import math

import pytest
import torch

from fairseq_seqvae.core.policy_gradient.diversity import SeenSequences, sequence_numbers, without_reward
from fairseq_seqvae.core.policy_gradient.ppo import clipped_loss
from fairseq_seqvae.core.policy_gradient.reinforce import policy_gradient_loss
from fairseq_seqvae.core.policy_gradient.reinvent import reinvent_loss
from fairseq_seqvae.core.schedules.run_state import RunState
from fairseq_seqvae.core.schedules.turns import GENERATOR_TURN, TurnPlan


class TestClippedLoss:
    def test_by_hand(self):
        ratios = torch.tensor([[1.1, 1.5, 0.5, 0.5, 1.5, 1.0]])
        advantages = torch.tensor([[2.0, 2.0, 2.0, -2.0, -2.0, 0.0]])
        # min(r A, clip(r) A): 2.2, 1.2 * 2, 1.0, -0.8 * 2, -3.0, 0
        found = clipped_loss(ratios.log(), torch.zeros(1, 6), advantages, 0.2)
        assert found.loss.item() == pytest.approx(-(2.2 + 2.4 + 1.0 - 1.6 - 3.0))
        assert found.clipped == 2

    def test_gradient_is_gone_where_it_is_clipped_and_that_of_reinforce_at_the_same_policy(self):
        ratios, advantages = torch.tensor([[1.5, 0.5, 1.5, 1.0]]), torch.tensor([[2.0, -2.0, -2.0, 3.0]])
        log_probs = ratios.log().requires_grad_()
        clipped_loss(log_probs, torch.zeros(1, 4), advantages, 0.2).loss.sum().backward()
        torch.testing.assert_close(log_probs.grad, torch.tensor([[0.0, 0.0, 3.0, -3.0]]))

        log_probs = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
        advantages = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))
        found = clipped_loss(log_probs, log_probs.detach(), advantages, 0.2)
        gradient = torch.autograd.grad(found.loss.sum(), log_probs)[0]
        expected = torch.autograd.grad(policy_gradient_loss(log_probs, advantages).sum(), log_probs)[0]
        torch.testing.assert_close(gradient, expected)
        assert found.clipped == 0

    def test_padding_adds_nothing_and_large_ratios_stay_finite(self):
        log_probs = torch.tensor([[0.0, 0.0], [-1.0, 0.0]]).requires_grad_()
        behaviour = torch.tensor([[-500.0, 0.0], [-1.0, 0.0]])
        found = clipped_loss(log_probs, behaviour, torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), 0.2)
        found.loss.sum().backward()
        assert torch.isfinite(found.loss).all() and torch.isfinite(log_probs.grad).all()
        assert not log_probs.grad[:, 1].any() and found.clipped == 0

    def test_shapes_are_named(self):
        with pytest.raises(ValueError, match=r"behaviour.*\(3, 2\)"):
            clipped_loss(torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2, 3), 0.2)


class TestReinvent:
    def test_by_hand(self):
        log_probs = torch.tensor([[-1.0, -2.0], [-4.0, 0.0]], requires_grad=True)
        reference = torch.tensor([[-2.0, -2.0], [-1.0, 0.0]], requires_grad=True)
        loss = reinvent_loss(log_probs, reference, torch.tensor([0.5, -1.0]), 4.0)
        # (-4 + 2 + 3)^2, (-1 - 4 + 4)^2
        assert loss.tolist() == [1.0, 1.0]
        loss.sum().backward()
        assert log_probs.grad.tolist() == [[-2.0, -2.0], [2.0, 2.0]] and reference.grad is None

    def test_at_its_minimum_the_policy_is_the_tilted_reference(self):
        """Three sequences of one token: p is drawn to p_ref * exp(sigma * score), normalised."""
        reference = torch.tensor([0.5, 0.3, 0.2]).log()
        scores, sigma = torch.tensor([0.0, 1.0, 0.5]), 2.0
        # A score that is the same for all moves nothing that a distribution could follow; this one sums to 1.
        scores = scores - ((reference + sigma * scores).logsumexp(0) / sigma)
        logits = torch.zeros(3, requires_grad=True)
        for _ in range(300):
            log_probs = logits.log_softmax(0).unsqueeze(1)
            loss = reinvent_loss(log_probs, reference.unsqueeze(1), scores, sigma)
            (gradient,) = torch.autograd.grad(loss.mean(), logits)
            logits = (logits - 0.3 * gradient).detach().requires_grad_()
        expected = (reference + sigma * scores).softmax(0)
        torch.testing.assert_close(logits.softmax(0), expected, rtol=1e-3, atol=1e-3)


class TestDiversity:
    def test_equal_sequences_have_equal_numbers_whatever_the_padding(self):
        tokens = torch.tensor([[5, 6, 2, 1], [5, 6, 2, 9], [6, 5, 2, 1], [5, 6, 6, 2], [5, 2, 1, 1]])
        mask = torch.arange(4) >= torch.tensor([3, 3, 3, 4, 2]).unsqueeze(1)
        numbers = sequence_numbers(tokens, mask)
        assert numbers[0] == numbers[1] and len(set(numbers.tolist())) == 4
        assert numbers[4] == sequence_numbers(tokens[4:, :2], mask[4:, :2])
        assert (numbers >= 0).all() and (numbers < 2**52).all()

    def test_many_sequences_have_different_numbers(self):
        tokens = torch.cartesian_prod(*[torch.arange(4, 24)] * 3)
        numbers = sequence_numbers(tokens, torch.zeros_like(tokens, dtype=torch.bool))
        assert len(numbers.unique()) == 8000

    def test_from_the_limit_on_a_sequence_has_been_seen_too_often(self):
        seen = SeenSequences(limit=2, capacity=10)
        asked = torch.tensor([7, 8])
        for expected in ([False, False], [False, False], [True, False]):
            assert seen.too_often(asked).tolist() == expected
            seen.add([7])
        seen.add([8, 8])
        assert seen.too_often(asked).tolist() == [True, True]

    def test_those_not_seen_for_the_longest_time_are_forgotten(self):
        seen = SeenSequences(limit=1, capacity=2)
        seen.add([1, 2, 1, 3])
        assert seen.too_often(torch.tensor([1, 2, 3])).tolist() == [True, False, True]

    def test_a_checkpoint_brings_back_counts_and_order(self):
        seen, other = SeenSequences(limit=2, capacity=3), SeenSequences(limit=2, capacity=3)
        seen.add([2**52 - 1, 5, 5, 9, 2**52 - 1])
        other.restore(seen.numbers())
        for memory in (seen, other):
            memory.add([77])
        assert other.numbers() == seen.numbers() == (9.0, 1.0, 2.0**52 - 1, 2.0, 77.0, 1.0)

    @pytest.mark.parametrize("rewards, least", [([[0.0, 0.5], [0.2, 0.9]], 0.0), ([[0.0, -3.0], [-1.0, 2.0]], -3.0)])
    def test_what_earns_nothing_earns_the_least(self, rewards, least):
        positions = torch.tensor([[False, True], [True, True]])
        found = without_reward(torch.tensor(rewards), positions, torch.tensor([False, True]))
        assert found.tolist() == [pytest.approx(rewards[0]), [least, least]]


class TestRunState:
    def test_what_is_made_at_the_time_of_saving_is_saved_and_loaded(self):
        state, numbers = RunState(), [1.0]
        state.keep("many", lambda: tuple(numbers))
        numbers.append(math.pi)
        saved = {}
        state.save(saved, "x.")
        loaded = RunState()
        assert state.keeps("many") and not loaded.keeps("many")
        loaded.keep("many", lambda: (0.0,))
        loaded.load(saved, "x.")
        assert loaded.get("many") == (1.0, math.pi) and not loaded.keeps("many")


@pytest.mark.parametrize("steps", [(1, 1), (2, 3), (1, 0), (0, 1), (4, 1)])
def test_turns_of_the_generator_are_counted(steps):
    plan = TurnPlan(3, 2, *steps)
    for update in range(40):
        expected = sum(plan.turn(before) is GENERATOR_TURN for before in range(update))
        assert plan.generator_turns_before(update) == expected
