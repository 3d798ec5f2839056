"""How much of a sequence is in its latent vector."""

import math
from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae.core.latents.base import Posterior
from fairseq_seqvae.core.noise import Draws, Stream, normal
from fairseq_seqvae.metrics.registry import register_latent_metric

_ROWS_AT_A_TIME = 1024


@register_latent_metric("mutual_information")
@torch.no_grad()
def mutual_information(posterior: Posterior, *, ids: Tensor, seed: int, num_samples: int = 4) -> float:
    """I_q(x; z) = E_x KL(q(z|x) || q(z)), nats, q(z) being the mean of q(z|x) over these B sequences.

    Hoffman, Johnson 2016, "ELBO surgery"; estimated by draws of z as in He et al. 2019, "Lagging inference networks".
    It cannot exceed log B; see :func:`mutual_information_bound`. It is the KL less the divergence of q(z) from the
    prior, and so small in two cases: the latent is unused, or every x has the same q.

    Args:
        posterior: q(z|x), (B, Z)
        ids: (B,), numbers of the sequences, for the noise
        num_samples: draws of z per sequence
    """
    num_rows, latent_dim = posterior.mean.shape
    if latent_dim == 0:
        return 0.0
    total, draws = 0.0, Draws(seed)
    for number in range(num_samples):
        noise = normal(draws.keys(Stream.MUTUAL_INFORMATION, ids, number), posterior.noise_dim)
        z = posterior.sample(noise).double()
        for some in torch.arange(num_rows, device=z.device).split(_ROWS_AT_A_TIME):
            log_q = posterior.cross_log_probs(z[some])
            own = log_q.gather(1, some.unsqueeze(1)).squeeze(1)
            total += float((own - log_q.logsumexp(dim=1) + math.log(num_rows)).sum())
    return total / (num_rows * num_samples)


@register_latent_metric("mutual_information_bound")
def mutual_information_bound(posterior: Any, **unused: Any) -> float | None:
    """A bound of the mutual information of x and z from above, nats, which is not limited by the number of sequences.

    E_x KL(q(z|x) || N(m, S)), with the mean m and the covariance S of the aggregate posterior. It is the mutual
    information where that posterior is a Gaussian. None for families of posteriors that have no closed form of it.
    """
    divergence = getattr(posterior, "divergence_from_moments", None)
    return None if divergence is None else float(divergence())


@register_latent_metric("active_units")
def active_units(posterior: Posterior, *, threshold: float = 0.01, **unused: Any) -> int:
    """Number of latent dimensions whose posterior mean varies over x by more than *threshold* (Burda et al. 2016)."""
    if len(posterior.mean) < 2:
        raise ValueError("active units are those whose means vary between sequences: give at least two.")
    deviations = posterior.mean.double() - posterior.mean.double().mean(dim=0)
    return int((deviations.square().sum(dim=0) / (len(deviations) - 1) > threshold).sum())
