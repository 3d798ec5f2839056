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


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """REINFORCE: - sum_t advantage_t * log p(y_t), (B,). Advantages are constants: no gradient flows into them.

    Args:
        log_probs: (B, T), with gradient, 0 at padding
        advantages: (B, T), 0 at padding
    """
    check_shape("advantages", advantages, "log_probs", log_probs.shape)
    return -(advantages.detach().float() * log_probs.float()).sum(dim=1)


def token_entropy(logits: Tensor, padding_mask: Tensor) -> Tensor:
    """Entropy of the distribution of each token, (B, T), nats, float32, 0 at padding, for logits (B, T, V)."""
    check_shape("padding_mask", padding_mask, "logits", logits.shape[:2])
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
