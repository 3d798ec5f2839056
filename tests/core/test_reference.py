"""The divergence from a reference policy: exact per token, its gradient, and the weight that holds it at a target."""

import itertools
import math

import oracles
import pytest
import torch

from fairseq_seqvae.core.policy_gradient.reference import (
    AdaptiveCoefficient,
    cost_of_later_tokens,
    token_divergence,
)


def slow_divergence(logits, reference):
    p, q = oracles.log_softmax(logits), oracles.log_softmax(reference)
    return sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True) if math.exp(a) > 0)


class TestTokenDivergence:
    def test_by_hand(self):
        logits = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0]]])
        reference = torch.tensor([[[0.0, 0.0], [5.0, 5.0]]])
        # 3/4 log(3/2) + 1/4 log(1/2); the second distribution is the same, whatever its logits are
        expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
        mask = torch.zeros(1, 2, dtype=torch.bool)
        torch.testing.assert_close(token_divergence(logits, reference, mask), torch.tensor([[expected, 0.0]]))

    @pytest.mark.parametrize("vocab", [1, 2, 30])
    def test_equals_the_loop_and_is_zero_at_padding(self, vocab):
        generator = torch.Generator().manual_seed(3)
        logits, reference = (2 * torch.randn(3, 4, vocab, generator=generator) for _ in range(2))
        lengths = [4, 1, 2]
        mask = torch.arange(4) >= torch.tensor(lengths).unsqueeze(1)
        found = token_divergence(logits, reference, mask)
        expected = [
            [slow_divergence(logits[b, t].tolist(), reference[b, t].tolist()) if t < n else 0.0 for t in range(4)]
            for b, n in enumerate(lengths)
        ]
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("forbidden", [-1e4, -math.inf])
    def test_forbidden_tokens_add_nothing(self, forbidden):
        logits = torch.tensor([[[1.0, 0.0, forbidden]]], requires_grad=True)
        found = token_divergence(logits, torch.tensor([[[0.0, 0.0, forbidden]]]), torch.zeros(1, 1, dtype=torch.bool))
        assert found.item() == pytest.approx(slow_divergence([1.0, 0.0], [0.0, 0.0]))
        found.sum().backward()
        assert torch.isfinite(logits.grad).all()

    def test_half_precision_and_gradient_only_to_the_policy(self):
        logits = torch.randn(1, 2, 50).half().requires_grad_()
        reference = torch.randn(1, 2, 50).half().requires_grad_()
        found = token_divergence(logits, reference, torch.zeros(1, 2, dtype=torch.bool))
        found.sum().backward()
        assert found.dtype == torch.float32 and reference.grad is None and logits.grad.abs().sum() > 0

    def test_shapes_are_named(self):
        with pytest.raises(ValueError, match=r"reference_logits.*\(2, 3, 5\)"):
            token_divergence(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.bool))
        with pytest.raises(ValueError, match=r"padding_mask.*\(1, 4\)"):
            token_divergence(torch.zeros(4, 1, 5), torch.zeros(4, 1, 5), torch.zeros(1, 4, dtype=torch.bool))


class TestCost:
    def test_by_hand(self):
        cost = cost_of_later_tokens(torch.tensor([[1.0, 2.0, 4.0], [3.0, 0.0, 0.0]]))
        assert cost.tolist() == [[6.0, 4.0, 0.0], [0.0, 0.0, 0.0]]

    def test_with_it_the_gradient_is_that_of_the_divergence_of_whole_sequences(self):
        """Exact: two tokens of two kinds; the second distribution depends on the first token."""
        first = torch.tensor([0.2, -0.5], dtype=torch.float64, requires_grad=True)
        second = torch.tensor([[0.7, 0.1], [-0.3, 0.9]], dtype=torch.float64, requires_grad=True)
        reference = torch.tensor([[0.5, 0.4], [-1.0, 0.3], [0.2, 0.6]], dtype=torch.float64).log_softmax(dim=1)
        p, q = first.log_softmax(0), second.log_softmax(1)
        whole = sum(
            (p[a] + q[a, b]).exp() * (p[a] + q[a, b] - reference[0, a] - reference[1 + a, b])
            for a, b in itertools.product(range(2), repeat=2)
        )
        truth = torch.autograd.grad(whole, (first, second))

        total = 0.0
        for a, b in itertools.product(range(2), repeat=2):
            p, q = first.log_softmax(0), second.log_softmax(1)
            weight = (p[a] + q[a, b]).exp().detach()
            logits = torch.stack([first, second[a]]).unsqueeze(0)
            divergence = token_divergence(
                logits, reference[[0, 1 + a]].unsqueeze(0), torch.zeros(1, 2, dtype=torch.bool)
            )
            cost = cost_of_later_tokens(divergence.detach())[0]
            total = total + weight * (divergence.sum() + cost[0] * p[a] + cost[1] * q[a, b])
        found = torch.autograd.grad(total, (first, second))
        for one, other in zip(found, truth, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class TestAdaptiveCoefficient:
    @pytest.mark.parametrize(
        "divergence, sequences, expected",
        [
            (6.0, 100, 0.5 * (1 + 0.2 * 0.1)),  # twice the target: no more than 20 %
            (3.3, 100, 0.5 * (1 + 0.1 * 0.1)),
            (3.0, 100, 0.5),
            (0.0, 100, 0.5 * (1 - 0.2 * 0.1)),
            (0.0, 5000, 0.5 * 0.8),  # a batch beyond the horizon
        ],
    )
    def test_by_hand(self, divergence, sequences, expected):
        controller = AdaptiveCoefficient(start=0.1, target=3.0, horizon=1000)
        assert controller.step(0.5, divergence, sequences) == pytest.approx(expected)

    @pytest.mark.parametrize("name", ["start", "target", "horizon"])
    def test_what_must_be_above_zero_is_named(self, name):
        with pytest.raises(ValueError, match=f"`{name}` must be above 0 but is 0"):
            AdaptiveCoefficient(**{"start": 1.0, "target": 1.0, "horizon": 1, name: 0})
