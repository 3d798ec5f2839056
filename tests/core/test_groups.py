"""Groups of sequences of one z: their baseline, their scale, and those without spread."""

import itertools

import oracles
import pytest
import torch

from fairseq_seqvae.core.policy_gradient.groups import count_without_spread, leave_one_out, scaled_by_group
from fairseq_seqvae.core.policy_gradient.reinforce import (
    Credit,
    policy_advantages,
    policy_gradient_loss,
)
from fairseq_seqvae.core.rollouts.rollout import reward_positions

NO_PADDING = torch.zeros(4, 1, dtype=torch.bool)


def test_the_baseline_by_hand():
    returns = torch.tensor([[1.0, 10.0], [3.0, 0.0], [8.0, 5.0], [0.0, 0.0], [0.0, 3.0], [6.0, 3.0]])
    # groups of three: (1, 3, 8) minus (5.5, 4.5, 2); the second group does not see the first
    expected = [[-4.5, 7.5], [-1.5, -7.5], [6.0, 0.0], [-3.0, -3.0], [-3.0, 1.5], [6.0, 1.5]]
    assert leave_one_out(returns, 3).tolist() == expected


def test_a_row_alone_and_groups_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="size.*at least 2 but is 1"):
        leave_one_out(torch.zeros(4, 2), 1)
    with pytest.raises(ValueError, match="size.*divide the number of rows, 4, but is 3"):
        leave_one_out(torch.zeros(4, 2), 3)


def test_scaling_by_hand():
    advantages = torch.tensor([[3.0, 0.0], [-3.0, 4.0], [0.1, 0.0], [-0.1, 0.1]])
    mask = torch.tensor([[False, True], [False, False], [False, True], [False, False]])
    # root mean squares of three tokens each
    big, small = ((9 + 9 + 16) / 3) ** 0.5, (3 * 0.01 / 3) ** 0.5
    expected = [[3 / big, 0], [-3 / big, 4 / big], [0.1 / small, 0], [-0.1 / small, 0.1 / small]]
    torch.testing.assert_close(scaled_by_group(advantages, advantages, mask, 2), torch.tensor(expected))


@pytest.mark.parametrize("reward", [0.1, 1 / 3, 123.4, 0.0])
def test_a_group_without_spread_teaches_nothing_and_is_counted(reward):
    rewards = torch.tensor([[reward], [reward], [reward], [reward + 1]])
    how = Credit(stride=1, baseline="group", normalize=True, normalize_by="group", group_size=2)
    result = policy_advantages(rewards, ~NO_PADDING, NO_PADDING, how)
    torch.testing.assert_close(result.flatten(), torch.tensor([0.0, 0.0, -1.0, 1.0]))
    assert count_without_spread(rewards.squeeze(1), 2) == 1
    assert count_without_spread(rewards.squeeze(1), 4) == 0


def test_a_member_that_has_ended_counts_with_what_it_has_earned():
    # One group of two; the first ends after a token. By hand: with step credit a token is worth the next reward.
    rewards = torch.tensor([[5.0, 0.0, 0.0], [1.0, 2.0, 9.0]])
    mask = torch.tensor([[False, True, True], [False, False, False]])
    step = policy_advantages(rewards, ~mask, mask, Credit(1, "step", "group", group_size=2))
    assert step.tolist() == [[4.0, 0.0, 0.0], [-4.0, -3.0, 4.0]]
    # To go, the first earns its 5 three times: 15, 10, 5 against 12, 11, 9.
    to_go = policy_advantages(rewards, ~mask, mask, Credit(1, "to-go", "group", group_size=2))
    assert to_go.tolist() == [[3.0, 0.0, 0.0], [-3.0, 1.0, 4.0]]


@pytest.mark.parametrize("credit", ["step", "to-go"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 10])
def test_equal_rewards_teach_nothing_whatever_the_lengths(credit, stride):
    mask = torch.arange(7) >= torch.tensor([7, 3, 1, 6]).unsqueeze(1)
    positions = reward_positions((~mask).sum(dim=1), 7, stride)
    result = policy_advantages(0.5 * positions, positions, mask, Credit(stride, credit, "group", group_size=4))
    assert result.abs().max() == 0


def test_a_cost_is_taken_from_the_returns_before_they_are_compared():
    rewards, cost = torch.tensor([[2.0], [4.0], [1.0], [1.0]]), torch.tensor([[1.0], [0.0], [0.0], [3.0]])
    how = Credit(1, "step", "group", group_size=2)
    result = policy_advantages(rewards, ~NO_PADDING, NO_PADDING, how, cost)
    assert result.flatten().tolist() == [-3.0, 3.0, 3.0, -3.0]


def test_the_gradient_is_unbiased():
    """Exact expectation over all outcomes of two groups, of two z, with two members and two actions each."""
    logits = torch.tensor([[0.3, -0.4], [1.1, 0.2]], dtype=torch.float64)
    reward = torch.tensor([[1.0, 4.0], [-2.0, 7.0]], dtype=torch.float64)
    probs = [torch.tensor(oracles.softmax(row.tolist()), dtype=torch.float64) for row in logits]
    truth = torch.stack([p * (r - (p * r).sum()) for p, r in zip(probs, reward, strict=True)])
    found = torch.zeros(2, 2, dtype=torch.float64)
    for actions in itertools.product(range(2), repeat=4):
        latents = (0, 0, 1, 1)
        weight = torch.stack([probs[z][a] for z, a in zip(latents, actions, strict=True)]).prod()
        parameters = logits.float().clone().requires_grad_()
        table = torch.log_softmax(parameters, dim=1)
        log_probs = torch.stack([table[z, a] for z, a in zip(latents, actions, strict=True)]).unsqueeze(1)
        rewards = torch.tensor([[reward[z, a].item()] for z, a in zip(latents, actions, strict=True)])
        given = policy_advantages(rewards, ~NO_PADDING, NO_PADDING, Credit(1, "step", "group", group_size=2))
        (policy_gradient_loss(log_probs, given).sum() / 2).backward()
        found -= weight * parameters.grad
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-5)
