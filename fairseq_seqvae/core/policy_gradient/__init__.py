"""From rewards of prefixes to the policy-gradient loss: returns, baselines, losses."""

from fairseq_seqvae.core.policy_gradient.baselines import BASELINES, advantages
from fairseq_seqvae.core.policy_gradient.losses import policy_gradient_loss, token_entropy
from fairseq_seqvae.core.policy_gradient.returns import (
    CREDITS,
    absorb_end,
    reward_positions,
    token_returns,
)

__all__ = [
    "BASELINES",
    "CREDITS",
    "absorb_end",
    "advantages",
    "policy_gradient_loss",
    "reward_positions",
    "token_entropy",
    "token_returns",
]
