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

from fairseq_seqvae.core.sequences import check_shape

BASELINES = ("none", "mean", "leave-one-out")


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
    check_shape("padding_mask", padding_mask, "returns", returns.shape)
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
    if normalize:
        root_mean_square = (result.square().sum() / alive.sum().clamp(min=1)).sqrt()
        # Equal returns leave rounding errors behind, which must not be blown up to advantages of size 1.
        meaningful = root_mean_square > 1e-6 * returns.abs().max()
        result = torch.where(meaningful, result / root_mean_square, torch.zeros_like(result))
    return result
