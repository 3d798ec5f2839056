"""From rewards of prefixes to the policy-gradient loss of tokens.

State (z, y_<t), action y_t. ``rewards[b, i-1]`` is the value of the prefix y_1..i, given at some positions only
(every `stride` tokens, and at the end). Gao, Cui, Ding 2021 state two losses:

* per-step reward (SeqGAN, "SeqVAE_1"): - sum_i R_i * (log-likelihood of the segment that ends at i);
* reward of prefixes ("SeqVAE_2"): - sum_i R_i * (log-likelihood of the whole prefix y_1..i).

Exchanging the two sums of the second gives each token the sum of all rewards from its position on: it is the
first with another return, so one loss serves both.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.policy_gradient import groups
from fairseq_seqvae.core.sequences import shape_error

CREDITS = ("step", "to-go")
BASELINES = ("none", "mean", "leave-one-out", "group", "critic")
NORMALIZERS = ("batch", "group")


def absorb_end(rewards: Tensor, positions: Tensor, lengths: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Let a sequence that has ended keep earning its last reward, up to the width of the batch.

    The reward of prefixes is defined for sequences of one length. Summed over those of different lengths, it would
    pay a policy for not ending: each further token adds a positive reward. A sequence that is padded to the common
    length earns, for each prefix that holds padding, what the whole sequence is worth; then only the worth counts.

    Args:
        rewards: (B, T), 0 outside *positions*
        positions: (B, T) bool, those of the same *stride*
        lengths: (B,)

    Returns:
        rewards and positions of the padded sequences, for :func:`token_returns`; ceil(T / stride) per row.
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
        positions: (B, T) bool
        padding_mask: (B, T), True = padding
        credit: ``step``: the reward of the first rewarded position at or after the token;
            ``to-go``: the sum of the rewards of all rewarded positions at or after the token
    """
    if positions.shape != rewards.shape:
        raise shape_error("positions", positions, "rewards", rewards.shape)
    if padding_mask.shape != rewards.shape:
        raise shape_error("padding_mask", padding_mask, "rewards", rewards.shape)
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


def returns_beyond_end(rewards: Tensor, lengths: Tensor, stride: int, credit: str) -> Tensor:
    """What :func:`token_returns` would be at each position if sequences had ended before it, (B, T).

    That is the last reward, or with ``to-go`` as many of it as there are rewarded positions from there on.

    Args:
        rewards: (B, T)
        lengths: (B,)
        stride: of the rewarded positions
        credit: see :func:`token_returns`
    """
    final = rewards.float().gather(1, (lengths - 1).unsqueeze(1)).expand(rewards.shape)
    if credit != "to-go":
        return final
    width = rewards.size(1)
    # Multiples of the stride up to the width, and the width itself, but for those before the position.
    before = torch.arange(width, device=rewards.device).div(stride, rounding_mode="floor")
    return final * (-(-width // stride) - before)


def advantages(returns: Tensor, padding_mask: Tensor, baseline: str = "none", normalize: bool = False) -> Tensor:
    """Returns minus a baseline that is taken at the same position over the batch, (B, T), 0 at padding.

    Args:
        returns: (B, T)
        padding_mask: (B, T), True = padding; only rows that are alive at a position count there
        baseline: ``none``; ``mean`` of all rows; ``leave-one-out``, the mean of the other rows, which does not depend
            on the row's own tokens (Kool et al. 2019). Where a row is alone, nothing can be said: its advantage is 0
        normalize: divide by the root mean square of all advantages, so that the size of a step does not depend
            on the spread of the rewards
    """
    if padding_mask.shape != returns.shape:
        raise shape_error("padding_mask", padding_mask, "returns", returns.shape)
    returns = returns.float()
    alive = (~padding_mask).to(returns.dtype)
    returns = returns.masked_fill(padding_mask, 0.0)
    count = alive.sum(dim=0, keepdim=True)
    total = returns.sum(dim=0, keepdim=True)
    if baseline == "none":
        result = returns
    elif baseline == "mean":
        result = returns - total / count.clamp(min=1)
    elif baseline == "leave-one-out":
        others = (total - returns) / (count - 1).clamp(min=1)
        result = torch.where(count > 1, returns - others, torch.zeros_like(returns))
    else:
        raise ValueError(f"`baseline` must be one of {', '.join(BASELINES)} but is {baseline!r}.")
    result = result * alive
    return scaled_by_batch(result, returns, padding_mask) if normalize else result


def scaled_by_batch(advantages: Tensor, returns: Tensor, padding_mask: Tensor) -> Tensor:
    """Advantages (B, T), 0 at padding, divided by their root mean square; all 0 if *returns* (B, T) have no spread."""
    root_mean_square = (advantages.square().sum() / (~padding_mask).sum().clamp(min=1)).sqrt()
    # Equal returns leave rounding errors behind, which must not be blown up to advantages of size 1.
    meaningful = root_mean_square > groups.ROUNDING * returns.abs().max()
    return torch.where(meaningful, advantages / root_mean_square, torch.zeros_like(advantages))


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """REINFORCE: - sum_t advantage_t * log p(y_t), (B,). Advantages are constants: no gradient flows into them.

    Args:
        log_probs: (B, T), with gradient, 0 at padding
        advantages: (B, T), 0 at padding
    """
    if advantages.shape != log_probs.shape:
        raise shape_error("advantages", advantages, "log_probs", log_probs.shape)
    return -(advantages.detach().float() * log_probs.float()).sum(dim=1)


def token_entropy(logits: Tensor, padding_mask: Tensor) -> Tensor:
    """Entropy of the distribution of each token, (B, T), nats, float32, 0 at padding, for logits (B, T, V)."""
    if padding_mask.shape != logits.shape[:2]:
        raise shape_error("padding_mask", padding_mask, "logits", logits.shape[:2])
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    # Forbidden tokens have log-probabilities of about -1e4 and probabilities of 0: their product is 0, not NaN.
    entropy = -(log_probs.exp() * log_probs.clamp(min=-1e9)).sum(dim=-1)
    return entropy.masked_fill(padding_mask, 0.0)


def entropy_above_floor(entropy: Tensor, lengths: Tensor, weight: float, floor: float) -> Tensor:
    """The entropy of each sequence that its weight acts on, (B,): all of it, or with a price what lies above a floor.

    Args:
        entropy: (B,), nats, sums over tokens
        lengths: (B,)
        weight: above 0 a bonus, below 0 a price
        floor: nats per token, mean of a sequence, below which it is free of the price
    """
    return (entropy - floor * lengths).clamp(min=0) if weight < 0 else entropy


@dataclass(frozen=True)
class Credit:
    """How rewards become the loss of tokens.

    Attributes:
        stride: prefixes are rewarded every this many tokens
        credit: see :func:`token_returns`; with ``to-go`` a sequence that has ended keeps earning its last reward
        baseline: see :func:`advantages`; ``group``, see :func:`.groups.leave_one_out`; or ``critic``: its predictions
            and what they leave in the mean of the other rows
        normalize: see :func:`advantages`
        normalize_by: over what: the ``batch``, or the ``group``
        group_size: rows that share a z, see :mod:`.groups`
        entropy_weight, entropy_floor: see :func:`entropy_above_floor`
    """

    stride: int
    credit: str = "step"
    baseline: str = "none"
    normalize: bool = False
    normalize_by: str = "batch"
    group_size: int = 1
    entropy_weight: float = 0.0
    entropy_floor: float = 0.0


def policy_advantages(
    rewards: Tensor,
    positions: Tensor,
    padding_mask: Tensor,
    how: Credit,
    cost: Tensor | None = None,
    expected: Tensor | None = None,
) -> Tensor:
    """From values of prefixes to the advantage of each token, (B, T), 0 at padding.

    Args:
        rewards: (B, T), values of prefixes
        positions: (B, T) bool, where they are
        padding_mask: (B, T), True = padding
        how: see :class:`Credit`
        cost: (B, T), 0 at padding, is taken from the returns; or None
        expected: (B, T), 0 at padding, a critic's prediction of the returns; with the baseline ``critic`` only
    """
    lengths = (~padding_mask).sum(dim=1)
    in_groups = how.baseline == "group"
    if how.credit == "to-go":
        rewards, positions = absorb_end(rewards, positions, lengths, how.stride)
    returns = token_returns(rewards, positions, padding_mask, how.credit)
    if in_groups:
        returns = torch.where(padding_mask, returns_beyond_end(rewards, lengths, how.stride, how.credit), returns)
    if cost is not None:
        returns = returns - cost
    by_batch = how.normalize and how.normalize_by == "batch"
    if in_groups:
        result = groups.leave_one_out(returns, how.group_size).masked_fill(padding_mask, 0.0)
        result = scaled_by_batch(result, returns, padding_mask) if by_batch else result
    elif expected is not None:
        # What it gets wrong for all rows alike, above all while it is young, cancels.
        result = advantages(returns - expected, padding_mask, "leave-one-out", by_batch)
    else:
        result = advantages(returns, padding_mask, how.baseline, by_batch)
    if how.normalize and not by_batch:
        result = groups.scaled_by_group(result, returns, padding_mask, how.group_size)
    return result


class PolicyTerms(NamedTuple):
    """Terms of the policy's objective, nats.

    Attributes:
        loss: (B,), policy-gradient loss, with gradient
        advantages: (B, T), that it is made of
        entropy: (B,), sums over tokens; without gradient
        weighed_entropy: (B,), what the entropy's weight acts on; with gradient where that weight is not 0
    """

    loss: Tensor
    advantages: Tensor
    entropy: Tensor
    weighed_entropy: Tensor


def entropy_terms(logits: Tensor, padding_mask: Tensor, how: Credit) -> tuple[Tensor, Tensor]:
    """The last two of :class:`PolicyTerms`, for *logits* (B, T, V)."""
    with torch.set_grad_enabled(how.entropy_weight != 0):
        entropy = token_entropy(logits, padding_mask).sum(dim=1)
    lengths = (~padding_mask).sum(dim=1)
    weighed = entropy_above_floor(entropy, lengths, how.entropy_weight, how.entropy_floor)
    return entropy.detach(), weighed


def policy_terms(
    log_probs: Tensor,
    logits: Tensor,
    values: tuple[Tensor, Tensor] | None,
    padding_mask: Tensor,
    how: Credit,
    cost: Tensor | None = None,
    known: Tensor | None = None,
    expected: Tensor | None = None,
) -> PolicyTerms:
    """All of this file, in order: returns, advantages, loss, entropy.

    Args:
        log_probs: (B, T), of the tokens of the trajectories, with gradient, 0 at padding
        logits: (B, T, V) that they are from
        values: rewards (B, T) of prefixes, and bool (B, T) where they are
        padding_mask: (B, T), True = padding
        how: see :class:`Credit`
        cost: see :func:`policy_advantages`
        known: advantages (B, T), instead of those that *values* would give; one of the two must be given
        expected: see :func:`policy_advantages`
    """
    if values is not None:
        given = policy_advantages(*values, padding_mask, how, cost, expected)
    elif known is not None:
        given = known
    else:
        raise ValueError("`values` and `known` are both None: give one of them.")
    return PolicyTerms(policy_gradient_loss(log_probs, given), given, *entropy_terms(logits, padding_mask, how))
