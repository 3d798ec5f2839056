"""The evidence lower bound: the one equation that training, validation and the bounds of held-out likelihood share."""

from torch import Tensor


def negative_elbo(log_likelihood: Tensor, divergence: Tensor, kl_weight: float = 1.0) -> Tensor:
    """``- log p(x|z) + kl_weight * KL(q(z|x) || p(z))``, nats, in the common shape of the two (Kingma, Welling 2014).

    Args:
        log_likelihood: log p(x|z) at z ~ q(z|x), or its mean over several draws
        divergence: KL(q(z|x) || p(z)), or the part of it that a penalty leaves
        kl_weight: 1 makes the result a bound of - log p(x)
    """
    return kl_weight * divergence - log_likelihood
