"""The critic: its loss, the values and baselines that it gives, and how much it explains."""

import pytest
import torch

from fairseq_seqvae.core.policy_gradient.critic import (
    critic_loss,
    expected_returns,
    explained,
    explained_variance,
    prefix_predictions,
)
from fairseq_seqvae.core.policy_gradient.reinforce import Credit, policy_advantages
from fairseq_seqvae.core.rollouts.rollout import reward_positions

LENGTHS = torch.tensor([4, 2])
MASK = torch.arange(4) >= LENGTHS.unsqueeze(1)
PREDICTED = torch.tensor([[0.5, 1.0, 2.0, 3.0], [4.0, 6.0, 9.0, 9.0]])
SCORES = torch.tensor([2.0, 5.0])


def test_the_loss_by_hand_and_its_gradient():
    predicted = PREDICTED.clone().requires_grad_()
    loss = critic_loss(predicted, SCORES, MASK)
    # errors -1.5, -1, 0, 1; and -1, 1
    assert loss.tolist() == [pytest.approx((2.25 + 1 + 0 + 1) / 8), pytest.approx(2 / 4)]
    loss.sum().backward()
    torch.testing.assert_close(predicted.grad, torch.tensor([[-1.5, -1, 0, 1], [-2, 2, 0, 0]]) / 4)


def test_the_value_of_a_prefix_is_the_prediction_before_the_next_token():
    positions = reward_positions(LENGTHS, 4, 1)
    values = prefix_predictions(PREDICTED, SCORES, positions, LENGTHS)
    assert values.tolist() == [[1.0, 2.0, 3.0, 2.0], [6.0, 5.0, 0.0, 0.0]]
    sparse = prefix_predictions(PREDICTED, SCORES, reward_positions(LENGTHS, 4, 3), LENGTHS)
    assert sparse.tolist() == [[0.0, 0.0, 3.0, 2.0], [0.0, 5.0, 0.0, 0.0]]


def test_expected_returns_by_hand():
    positions = reward_positions(LENGTHS, 4, 2)
    step = expected_returns(PREDICTED, positions, MASK, "step", 2)
    assert step.tolist() == [[0.5, 1.0, 2.0, 3.0], [4.0, 6.0, 0.0, 0.0]]
    # Rewards at 2 and 4; the second sequence has ended at 2 and earns another one at 4.
    to_go = expected_returns(PREDICTED, positions, MASK, "to-go", 2)
    assert to_go.tolist() == [[1.0, 2.0, 2.0, 3.0], [8.0, 12.0, 0.0, 0.0]]


@pytest.mark.parametrize("credit", ["step", "to-go"])
@pytest.mark.parametrize("stride", [1, 2, 3, 9])
def test_a_critic_that_knows_the_reward_leaves_no_advantage(credit, stride):
    lengths = torch.tensor([7, 3, 1, 6])
    mask = torch.arange(7) >= lengths.unsqueeze(1)
    scores = torch.tensor([0.1, 2.0, -1.0, 0.7])
    positions = reward_positions(lengths, 7, stride)
    rewards = scores.unsqueeze(1) * positions
    expected = expected_returns(scores.unsqueeze(1).expand(4, 7), positions, mask, credit, stride)
    result = policy_advantages(rewards, positions, mask, Credit(stride, credit, "critic"), None, expected)
    assert result.abs().max() < 1e-6


def test_without_its_predictions_the_baseline_is_refused():
    with pytest.raises(ValueError, match="baseline"):
        policy_advantages(torch.ones(2, 4), ~MASK, MASK, Credit(1, "step", "critic"))


def test_explained_variance_is_that_of_all_places():
    scores = torch.tensor([0.0, 1.0, 4.0])
    predicted = torch.tensor([[0.5, 9.0], [1.0, 0.0], [3.0, 5.0]])
    mask = torch.tensor([[False, True], [False, False], [False, False]])
    targets, errors = [0.0, 1.0, 1.0, 4.0, 4.0], [-0.5, 0.0, 1.0, 1.0, -1.0]
    variance = lambda values: sum((v - sum(values) / 5) ** 2 for v in values) / 5  # noqa: E731
    parts = [explained(predicted[rows], scores[rows], mask[rows]) for rows in ([0], [1, 2])]
    sums = [float(sum(part[key] for part in parts)) for key in parts[0]]
    assert explained_variance(*sums) == pytest.approx(1 - variance(errors) / variance(targets))
    assert explained_variance(5.0, 10.0, 20.0, 1.0, 3.0) == 0.0  # all targets are 2
