"""What a language model says of each token of a sequence."""

from typing import Any

import torch
from torch import Tensor, nn

from fairseq_seqvae.core.sequences import token_log_probs

# Logits that are held at a time, as numbers.
_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 27}
_LEAST = -30.0  # nats: below, a token counts as impossible


class TokenLikelihood(nn.Module):
    """Feature of each token: its log-probability after those before it, under a language model that rests.

    Args:
        policy: a module with ``eos``, ``pad`` and ``teacher_forced(previous (B, T), z (B, Z), regularize) ->
            logits (B, T, V)``; its parameters carry no gradient from here on
        z: (Z,), the latent vector that it reads at all times
        of_start: whether the policy is a stand-in for one that is known only when the discriminator starts to learn
    """

    num_features = 1

    def __init__(self, policy: Any, z: Tensor, of_start: bool = False):
        super().__init__()
        self.of_start = of_start
        self.policy = policy.requires_grad_(False).eval()
        self.register_buffer("z", z, persistent=False)

    def train(self, mode: bool = True) -> "TokenLikelihood":
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def log_probs(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Log-probability of each token, (B, T), nats, float32, 0 at padding."""
        previous = tokens.roll(1, dims=1).masked_fill(mask, self.policy.pad)
        previous[:, 0] = self.policy.eos
        found, rows = [], 1
        start = 0
        while start < len(tokens):
            some = slice(start, start + rows)
            z = self.get_buffer("z").expand(len(tokens[some]), -1)
            logits = self.policy.teacher_forced(previous[some], z, regularize=False)
            found.append(token_log_probs(logits, tokens[some], mask[some]))
            start += rows
            rows = max(1, _LOGITS.get(logits.device.type, _LOGITS["cuda"]) // logits[0].numel())
        return torch.cat(found)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, 1), float32: 2 for a certain token, -2 for one of -30 nats or fewer."""
        return (self.log_probs(tokens, mask).clamp(min=_LEAST) * (4 / -_LEAST) + 2).unsqueeze(2)
