"""Losses of the discriminator, and its logits as rewards.

Everywhere ``logits_real_is_high``: a high logit says that the sequence is real.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def discriminator_loss(logits_real: Tensor, logits_fake: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Binary cross-entropies of real and of fake sequences, (B,) and (B',), nats, float32.

    Args:
        logits_real: (B,), of sequences from the data
        logits_fake: (B',), of sequences from the generator
        label_smoothing: the target of a real sequence is 1 minus this; that of a fake one stays 0 (one-sided
            smoothing, Salimans et al. 2016: smoothing both sides would teach the generator its own samples)

    Raises:
        ValueError: *label_smoothing* is outside [0, 0.5).
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise ValueError(f"`label_smoothing` must lie in [0, 0.5) but is {label_smoothing}.")
    real, fake = logits_real.float(), logits_fake.float()
    target_real = torch.full_like(real, 1.0 - label_smoothing)
    return (
        F.binary_cross_entropy_with_logits(real, target_real, reduction="none"),
        F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake), reduction="none"),
    )
