"""What is measured of a trained model: likelihood of held-out sequences, use of the latent space, variety of samples.

The likelihood of a latent-variable model is an integral over z. It is bounded from below by importance sampling from
q(z|x) (Burda, Grosse, Salakhutdinov 2016, "Importance weighted autoencoders"), the tighter the more samples.
"""

import math

import torch
from torch import Tensor

from fairseq_seqvae.core import noise
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.core.noise import Stream
from fairseq_seqvae.metrics.likelihood import _ROWS_AT_A_TIME


@torch.no_grad()
def mutual_information(posterior: DiagonalGaussian, *, ids: Tensor, seed: int, num_samples: int = 4) -> float:
    """I_q(x; z) = E_x KL(q(z|x) || q(z)), nats, q(z) being the mean of q(z|x) over these B sequences.

    Hoffman, Johnson 2016, "ELBO surgery"; estimated by draws of z as in He et al. 2019, "Lagging inference networks".
    It cannot exceed log B. It is the KL less the divergence of q(z) from the prior, and so small in two cases: the
    latent is unused, or every x has the same q.

    Args:
        posterior: q(z|x), (B, Z)
        ids: (B,), numbers of the sequences, for the noise
        num_samples: draws of z a sequence
    """
    mean, std = posterior.mean.double(), posterior.std.double()
    num_rows, latent_dim = mean.shape
    if latent_dim == 0:
        return 0.0
    precision = std.reciprocal().square()
    constant = -0.5 * (mean.square() * precision).sum(dim=1) - std.log().sum(dim=1)
    total = 0.0
    for number in range(num_samples):
        keys = noise.row_keys(seed, 0, Stream.MUTUAL_INFORMATION, ids, number)
        z = posterior.sample(noise.normal(keys, latent_dim)).double()
        for some in torch.arange(num_rows, device=z.device).split(_ROWS_AT_A_TIME // 4):
            # log q(z_i | x_n) up to a constant that all share, (I, N), by products of matrices
            log_q = constant + z[some] @ (mean * precision).T - 0.5 * z[some].square() @ precision.T
            own = log_q.gather(1, some.unsqueeze(1)).squeeze(1)
            total += float((own - log_q.logsumexp(dim=1) + math.log(num_rows)).sum())
    return total / (num_rows * num_samples)


def active_units(posterior: DiagonalGaussian, threshold: float = 0.01) -> int:
    """Number of latent dimensions whose posterior mean varies over x by more than *threshold* (Burda et al. 2016)."""
    if len(posterior.mean) < 2:
        raise ValueError("active units are those whose means vary between sequences: give at least two.")
    deviations = posterior.mean.double() - posterior.mean.double().mean(dim=0)
    return int((deviations.square().sum(dim=0) / (len(deviations) - 1) > threshold).sum())
