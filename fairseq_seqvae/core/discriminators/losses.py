"""Losses and accuracy of the discriminator.

Everywhere ``logits_real_is_high``: a high logit says that the sequence is real.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_seqvae.core.registry import Registry

Losses = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class DiscriminatorLoss:
    """A loss by which a discriminator learns.

    Attributes:
        function: (logits_real (B,), logits_fake (B',), label_smoothing) -> losses (B,) and (B',); all float32
        is_critic: whether logits are scores that only their differences give a meaning, rather than above 0 for "real"
    """

    function: Callable[[Tensor, Tensor, float], Losses]
    is_critic: bool = False


LOSSES: Registry[DiscriminatorLoss] = Registry("loss of the discriminator")


def register_discriminator_loss(name: str, is_critic: bool = False) -> Callable[[Callable[..., Losses]], Callable]:
    """Decorator of a function: make a loss available as *name*, see :class:`DiscriminatorLoss`."""

    def add(function: Callable[..., Losses]) -> Callable:
        LOSSES.register(name)(DiscriminatorLoss(function, is_critic))
        return function

    return add


def discriminator_loss(
    logits_real: Tensor, logits_fake: Tensor, label_smoothing: float = 0.0, kind: str = "cross-entropy"
) -> Losses:
    """Losses of real and of fake sequences, (B,) and (B',), float32.

    Args:
        logits_real: (B,), of sequences from the data
        logits_fake: (B',), of sequences from the generator
        label_smoothing: see :func:`cross_entropy`, which alone knows it
        kind: name of the loss

    Raises:
        ValueError: *label_smoothing* is outside [0, 0.5), or is not 0 where the loss knows none
    """
    return LOSSES[kind].function(logits_real.float(), logits_fake.float(), label_smoothing)


@register_discriminator_loss("cross-entropy")
def cross_entropy(real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Losses:
    """Binary cross-entropies, nats: logits are log-odds (Goodfellow et al. 2014).

    Args:
        real: (B,)
        fake: (B',)
        label_smoothing: the target of a real sequence is 1 minus this; that of a fake one stays 0 (one-sided
            smoothing, Salimans et al. 2016: smoothing both sides would teach the generator its own samples)
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise ValueError(f"`label_smoothing` must lie in [0, 0.5) but is {label_smoothing}.")
    target_real = torch.full_like(real, 1.0 - label_smoothing)
    return (
        F.binary_cross_entropy_with_logits(real, target_real, reduction="none"),
        F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake), reduction="none"),
    )


@register_discriminator_loss("hinge")
def hinge(real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Losses:
    """What lacks to a margin of 1 on the right side of 0 (Lim, Ye 2017, "Geometric GAN"): sure ones cost nothing."""
    _refuse_smoothing("hinge", label_smoothing)
    return F.relu(1.0 - real), F.relu(1.0 + fake)


@register_discriminator_loss("wasserstein", is_critic=True)
def wasserstein(real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Losses:
    """The scores themselves (Arjovsky, Chintala, Bottou 2017): their mean is minus a distance of the distributions.

    That holds only while the critic's slope is bounded: by a gradient penalty or by spectral normalisation.
    """
    _refuse_smoothing("wasserstein", label_smoothing)
    return -real, fake


def _refuse_smoothing(kind: str, label_smoothing: float) -> None:
    if label_smoothing:
        raise ValueError(
            f"`label_smoothing` must be 0 with the loss {kind}, which has no labels, but is {label_smoothing}."
        )


def judgement_threshold(logits_real: Tensor, logits_fake: Tensor, kind: str = "cross-entropy") -> Tensor:
    """The logit above which "real" is said, a scalar: 0, or for a critic the middle between the two means."""
    if not LOSSES[kind].is_critic:
        return logits_real.new_zeros(())
    return ((logits_real.float().mean() + logits_fake.float().mean()) / 2).to(logits_real.dtype)


def correct_judgements(logits_real: Tensor, logits_fake: Tensor, kind: str = "cross-entropy") -> tuple[Tensor, Tensor]:
    """How many real and how many fake sequences are judged correctly, two scalars.

    A logit at the threshold counts half, see :func:`judgement_threshold`.
    """
    threshold = judgement_threshold(logits_real, logits_fake, kind)
    real = (logits_real > threshold).float() + 0.5 * (logits_real == threshold).float()
    fake = (logits_fake < threshold).float() + 0.5 * (logits_fake == threshold).float()
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
