"""Proximal policy optimisation: trajectories that serve several updates, within a bound on how far these may go.

Schulman et al. 2017, "Proximal policy optimization algorithms", equation 7, per token.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.sequences import shape_error


class Clipped(NamedTuple):
    """The clipped objective.

    Attributes:
        loss: (B,), with gradient
        clipped: number of tokens, a scalar tensor, whose gradient the bound has removed
    """

    loss: Tensor
    clipped: Tensor


def clipped_loss(log_probs: Tensor, behaviour: Tensor, advantages: Tensor, clip: float) -> Clipped:
    """- sum_t min(r_t A_t, clip(r_t, 1 - clip, 1 + clip) A_t) with r_t = p(y_t) / p_behaviour(y_t).

    Where both policies are the same, its gradient is that of REINFORCE.

    Args:
        log_probs: (B, T), of the policy, with gradient, 0 at padding
        behaviour: (B, T), of the policy that has drawn the tokens, 0 at padding
        advantages: (B, T), 0 at padding
        clip: largest change of a probability that still pays, as a share of it
    """
    for name, tensor in (("behaviour", behaviour), ("advantages", advantages)):
        if tensor.shape != log_probs.shape:
            raise shape_error(name, tensor, "log_probs", log_probs.shape)
    advantages = advantages.detach().float()
    # Beyond e^20 a ratio is clipped anyway, or its gradient would be infinite.
    ratio = (log_probs.float() - behaviour.detach().float()).clamp(max=20.0).exp()
    plain, bounded = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    return Clipped(-torch.minimum(plain, bounded).sum(dim=1), (bounded < plain).sum())
