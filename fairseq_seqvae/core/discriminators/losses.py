"""Losses and accuracy of the discriminator.

Everywhere ``logits_real_is_high``: a high logit says that the sequence is real.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def correct_judgements(logits_real: Tensor, logits_fake: Tensor) -> tuple[Tensor, Tensor]:
    """How many real and how many fake sequences are judged correctly, two scalars; a logit of exactly 0 counts half."""
    real = (logits_real > 0).float() + 0.5 * (logits_real == 0).float()
    fake = (logits_fake < 0).float() + 0.5 * (logits_fake == 0).float()
    return real.sum(), fake.sum()


def output_penalty(discriminator: nn.Module) -> Tensor:
    """Half the squared norm of the discriminator's last layer, its module `output`; a scalar with gradient.

    Raises:
        ValueError: the discriminator has no such module
    """
    output = getattr(discriminator, "output", None)
    if output is None:
        raise ValueError(
            "the L2 penalty is on the module `output` of the discriminator, which this discriminator does not have: "
            "give its last layer that name, or a weight of 0."
        )
    return sum((p.float().square().sum() / 2 for p in output.parameters()), torch.zeros(()))
