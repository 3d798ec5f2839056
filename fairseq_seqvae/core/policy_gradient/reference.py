"""Keeping a policy near a reference: the exact divergence of each token, and a coefficient that holds it at a target.

A reward is never all that is wanted. The divergence from the policy before the rewards says how much a reward has cost,
and its weight says how much it may cost.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fairseq_seqvae.core.sequences import shape_error

# Largest relative error that moves the coefficient.
LARGEST_ERROR = 0.2


def token_divergence(logits: Tensor, reference_logits: Tensor, padding_mask: Tensor) -> Tensor:
    """KL(policy || reference) of the next token after each prefix, (B, T), nats, float32, 0 at padding.

    It is exact, a sum over the vocabulary, not an estimate from the token that was drawn. Gradient flows into *logits*
    only. Summed over time it is, in expectation over the policy's own sequences, the divergence of whole sequences.

    Args:
        logits: (B, T, V), of the policy
        reference_logits: (B, T, V), of the reference for the same prefixes and z
        padding_mask: (B, T), True = padding
    """
    if reference_logits.shape != logits.shape:
        raise shape_error("reference_logits", reference_logits, "logits", logits.shape)
    if padding_mask.shape != logits.shape[:2]:
        raise shape_error("padding_mask", padding_mask, "logits", logits.shape[:2])
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    reference = torch.log_softmax(reference_logits.detach().float(), dim=-1)
    # Forbidden tokens have a probability of 0 in both: the clamp keeps inf - inf away.
    difference = log_probs.clamp(min=-1e9) - reference.clamp(min=-1e9)
    return (log_probs.exp() * difference).sum(dim=-1).masked_fill(padding_mask, 0.0)


def cost_of_later_tokens(divergence: Tensor) -> Tensor:
    """What the choice of each token costs in the divergence of all later ones, (B, T), for *divergence* (B, T).

    A token does not change the divergence at its own position, which depends on its prefix only. Taken from the returns
    it completes the gradient: that of sum_t KL_t is sum_t (gradient of KL_t) + sum_t (gradient of log p(y_t)) *
    (sum of KL_s over s > t).
    """
    return divergence.flip(1).cumsum(dim=1).flip(1) - divergence


@dataclass(frozen=True)
class AdaptiveCoefficient:
    """A weight of the divergence that holds it at a target (Ziegler et al. 2019, section 2.2).

    Attributes:
        start: weight before the first update
        target: mean divergence of a sequence, nats
        horizon: sequences in which an error of 20 % or more changes the weight by about 20 %
    """

    start: float
    target: float
    horizon: int

    def __post_init__(self) -> None:
        for name in ("start", "target", "horizon"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be above 0 but is {getattr(self, name)}.")

    def step(self, coefficient: float, divergence: float, sequences: float) -> float:
        """The weight after an update.

        Args:
            coefficient: that of the update
            divergence: mean of its sequences, nats
            sequences: how many there were
        """
        error = min(max(divergence / self.target - 1, -LARGEST_ERROR), LARGEST_ERROR)
        # A batch beyond the horizon moves the weight by no more than the error.
        return coefficient * (1 + error * min(sequences / self.horizon, 1.0))
