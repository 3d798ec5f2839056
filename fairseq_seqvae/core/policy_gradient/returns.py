"""From rewards of prefixes to the policy-gradient loss of tokens.

State (z, y_<t), action y_t. ``rewards[b, i-1]`` is the value of the prefix y_1..i, given at some positions only
(every `stride` tokens, and at the end). Gao, Cui, Ding 2021 state two losses:

* per-step reward (SeqGAN, "SeqVAE_1"): - sum_i R_i * (log-likelihood of the segment that ends at i);
* reward of prefixes ("SeqVAE_2"): - sum_i R_i * (log-likelihood of the whole prefix y_1..i).

Exchanging the two sums of the second gives each token the sum of all rewards from its position on: it is the
first with another return, so one loss serves both.
"""

import torch
from torch import Tensor

from fairseq_seqvae.core.sequences import check_shape, padding_mask

CREDITS = ("step", "to-go")


def reward_positions(lengths: Tensor, max_len: int, stride: int) -> Tensor:
    """Where rewards are given: every *stride* tokens and at the end, (B, T) bool, ceil(length / stride) a row.

    Args:
        lengths: (B,), at least 1
        max_len: T
        stride: at least 1
    """
    if stride < 1:
        raise ValueError(f"`stride` must be at least 1 but is {stride}: 1 gives every token a reward.")
    prefix_lengths = torch.arange(1, max_len + 1, device=lengths.device)
    ends = prefix_lengths == lengths.unsqueeze(1)
    inside = (prefix_lengths % stride == 0) & (prefix_lengths < lengths.unsqueeze(1))
    return ends | inside


def absorb_end(rewards: Tensor, positions: Tensor, lengths: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Let a sequence that has ended go on earning its last reward, up to the width of the batch.

    The reward of prefixes is defined for sequences of one length. Summed over those of different lengths, it would
    pay a policy for not ending: each further token adds a positive reward. A sequence that is padded to the common
    length earns, for each prefix that holds padding, what the whole sequence is worth; then only the worth counts.

    Args:
        rewards: (B, T), 0 outside *positions*
        positions: (B, T) bool, from :func:`reward_positions` with the same *stride*
        lengths: (B,)

    Returns:
        rewards and positions of the padded sequences, for :func:`token_returns`; ceil(T / stride) a row.
    """
    prefix_lengths = torch.arange(1, rewards.size(1) + 1, device=rewards.device)
    # The reward at the end stands for the next multiple of the stride.
    covered = (lengths + stride - 1).div(stride, rounding_mode="floor").mul(stride).unsqueeze(1)
    on_grid = (prefix_lengths % stride == 0) | (prefix_lengths == rewards.size(1))
    added = on_grid & (prefix_lengths > covered)
    final = rewards.gather(1, (lengths - 1).unsqueeze(1))
    return torch.where(added, final, rewards), positions | added


def token_returns(rewards: Tensor, positions: Tensor, padding_mask: Tensor, credit: str = "step") -> Tensor:
    """What each token is credited with, (B, T), float32, 0 at padding.

    Args:
        rewards: (B, T), values outside *positions* are ignored
        positions: (B, T) bool, from :func:`reward_positions`
        padding_mask: (B, T), True = padding
        credit: ``step``: the reward of the first rewarded position at or after the token;
            ``to-go``: the sum of the rewards of all rewarded positions at or after the token
    """
    check_shape("positions", positions, "rewards", rewards.shape)
    check_shape("padding_mask", padding_mask, "rewards", rewards.shape)
    rewards = rewards.float().masked_fill(~positions, 0.0)
    if credit == "to-go":
        returns = rewards.flip(1).cumsum(dim=1).flip(1)
    elif credit == "step":
        index = torch.arange(rewards.size(1), device=rewards.device).expand_as(rewards)
        # Index of the next rewarded position: the running minimum from the right.
        next_index = index.masked_fill(~positions, rewards.size(1) - 1).flip(1).cummin(dim=1).values.flip(1)
        returns = rewards.gather(1, next_index)
    else:
        raise ValueError(f"`credit` must be one of {', '.join(CREDITS)} but is {credit!r}.")
    return returns.masked_fill(padding_mask, 0.0)


def returns_of_prefixes(rewards: Tensor, lengths: Tensor, stride: int, credit: str) -> Tensor:
    """What each token is credited with, (B, T), from the rewards of prefixes: all steps of this file in order.

    Args:
        rewards: (B, T), at the positions that :func:`reward_positions` gives for *stride*
        lengths: (B,)
        stride: at least 1
        credit: see :func:`token_returns`; with ``to-go`` a sequence that has ended keeps earning its last reward
    """
    positions = reward_positions(lengths, rewards.size(1), stride)
    if credit == "to-go":
        rewards, positions = absorb_end(rewards, positions, lengths, stride)
    return token_returns(rewards, positions, padding_mask(lengths, rewards.size(1)), credit)
