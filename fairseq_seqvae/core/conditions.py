"""Conditions: each sequence has a label, which encoder, decoder and discriminator know (CVAE-GAN, Bao et al. 2017).

A label is a number from 0. It travels as the last column of z, so that whatever is made of a z, such as completions of
prefixes, is made of its label too. A discriminator reads it as a token of its own, before the first one.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def joined(z: Tensor, labels: Tensor) -> Tensor:
    """z (B, Z) and the labels (B,) as one tensor (B, Z + 1), float32, which holds the numbers exactly."""
    return torch.cat([z.float(), labels.float().unsqueeze(1)], dim=1)


def parted(code: Tensor) -> tuple[Tensor, Tensor]:
    """The opposite of :func:`joined`: z (B, Z) and labels (B,) int64."""
    return code[:, :-1], code[:, -1].long()


def draw_labels(counts: Tensor, uniforms: Tensor) -> Tensor:
    """Labels (B,) as frequent as in the data.

    Args:
        counts: (L,) int64, how often the data has each label
        uniforms: (B,), in (0, 1)
    """
    ends = counts.cumsum(dim=0).double()
    # A label of which there is none ends where the one before it does, and is never drawn.
    return torch.searchsorted(ends, uniforms.double() * ends[-1], right=True)


def with_label(tokens: Tensor, padding_mask: Tensor, label_tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Sequences (B, T) and their mask, True = padding, after a token (B,) that stands for the label: (B, T + 1)."""
    first = label_tokens.unsqueeze(1)
    mask = torch.cat([torch.zeros_like(first, dtype=torch.bool), padding_mask], dim=1)
    return torch.cat([first, tokens], dim=1), mask


class ConditionedPosterior:
    """q(z|x, label), whose draws and mean have the label as their last column; else as the posterior that it has.

    Args:
        posterior: of B sequences
        labels: (B,)
    """

    def __init__(self, posterior: Any, labels: Tensor):
        self.posterior = posterior
        self.labels = labels

    @property
    def mean(self) -> Tensor:
        """(B, Z + 1)."""
        return joined(self.posterior.mean, self.labels)

    @property
    def noise_dim(self) -> int:
        """How many standard normal numbers a draw takes."""
        return self.posterior.noise_dim

    @staticmethod
    def cat(parts: "Sequence[ConditionedPosterior]") -> "ConditionedPosterior":
        """The rows of all *parts*, in order."""
        posteriors = [part.posterior for part in parts]
        return ConditionedPosterior(type(posteriors[0]).cat(posteriors), torch.cat([part.labels for part in parts]))

    def rows(self, index: Tensor) -> "ConditionedPosterior":
        """The distributions of the rows *index* (R,)."""
        return ConditionedPosterior(self.posterior.rows(index), self.labels[index])

    def sample(self, noise: Tensor) -> Tensor:
        """Draws with their labels, (B, Z + 1), for standard normal *noise* (B, noise_dim)."""
        return joined(self.posterior.sample(noise), self.labels)

    def kl(self) -> Tensor:
        """Divergence from the prior, which does not depend on the label, (B, D), nats."""
        return self.posterior.kl()

    def log_importance(self, noise: Tensor) -> Tensor:
        """log p(z) - log q(z|x, label) of the draws z = ``sample(noise)``, (B,), nats."""
        return self.posterior.log_importance(noise)

    def cross_log_probs(self, z: Tensor) -> Tensor:
        """log q(z_i|x_n) of every z_i, with its label (I, Z + 1), under every row n, (I, B)."""
        return self.posterior.cross_log_probs(parted(z)[0])


class ConditionedPrior:
    """p(z), whose draws have given labels.

    Args:
        prior: p(z)
        labels: (B,), of the draws
    """

    def __init__(self, prior: Any, labels: Tensor):
        self.prior = prior
        self.labels = labels

    @property
    def dim(self) -> int:
        """Z."""
        return self.prior.dim

    @property
    def noise_dim(self) -> int:
        """How many standard normal numbers a draw takes."""
        return self.prior.noise_dim

    def sample(self, noise: Tensor) -> Tensor:
        """Draws with their labels, (B, Z + 1), for standard normal *noise* (B, noise_dim)."""
        return joined(self.prior.sample(noise), self.labels)

    def walk(self, start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
        """Points between *start* and *end*, (B, Z + 1) each; in the middle the label of the one becomes the other's."""
        (z_start, first), (z_end, last) = parted(start), parted(end)
        return joined(self.prior.walk(z_start, z_end, weight), torch.where(weight < 0.5, first, last))
