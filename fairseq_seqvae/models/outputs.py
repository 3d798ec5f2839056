"""What a model gives to the criterion, with gradient, in a turn of each player."""

from typing import NamedTuple

from torch import Tensor

from fairseq_seqvae.core.latents.base import Posterior


class GeneratorOutput(NamedTuple):
    """What a generator's turn needs with gradient.

    Attributes:
        logits: (B, T, V), of the data given z ~ q(z|x)
        kl: (B, D), divergence of q(z|x) from p(z) in each dimension
        posterior: q(z|x)
        policy_logits: (B, T', V), of the trajectories given the z that they were sampled with; or None
        auxiliary_logits: (B, T, V), of the data given z alone, from a decoder that has such a part; or None
        predicted_rewards: (B, T'), of the trajectories by the critic, before each token; or None
    """

    logits: Tensor
    kl: Tensor
    posterior: Posterior
    policy_logits: Tensor | None
    auxiliary_logits: Tensor | None
    predicted_rewards: Tensor | None


class DiscriminatorOutput(NamedTuple):
    """What a discriminator's turn needs with gradient.

    Attributes:
        logits_real: (B,), of the data
        logits_fake: (B',), of samples
        penalty: (B,), of the slope between them; or None
    """

    logits_real: Tensor
    logits_fake: Tensor
    penalty: Tensor | None
