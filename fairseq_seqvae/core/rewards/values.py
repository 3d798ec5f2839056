"""Values of prefixes: the mean reward of their completions."""

import torch
from torch import Tensor

from fairseq_seqvae.core.noise import Draws
from fairseq_seqvae.core.policy_gradient.returns import reward_positions
from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rollouts.completion import complete_prefixes
from fairseq_seqvae.core.rollouts.policy import Policy, RolloutPlan, Trajectory


@torch.no_grad()
def prefix_values(policy: Policy, reward: Reward, trajectory: Trajectory, plan: RolloutPlan, draws: Draws) -> Tensor:
    """Value of each rewarded prefix: the mean reward of its completions, (B, T), float32, 0 elsewhere.

    The last position of a sequence has the reward of the sequence itself. Rewarded positions are those of
    :func:`reward_positions`.

    Args:
        policy: completes the prefixes
        reward: scores completions and whole sequences
        trajectory: the sequences whose prefixes are valued
        plan: see :class:`RolloutPlan`
        draws: random numbers of the update
    """
    values = torch.zeros(trajectory.tokens.shape, device=trajectory.tokens.device)
    for completions in complete_prefixes(policy, trajectory, plan, draws):
        scores = reward.score_completions(completions, trajectory.tokens).float() / plan.num_rollouts
        values.index_put_((completions.rows, completions.prefix_lengths - 1), scores, accumulate=True)
    whole = reward.score(trajectory.tokens, trajectory.mask).float()
    values.scatter_(1, (trajectory.lengths - 1).unsqueeze(1), whole.unsqueeze(1))
    return values.masked_fill(~reward_positions(trajectory.lengths, values.size(1), plan.stride), 0.0)
