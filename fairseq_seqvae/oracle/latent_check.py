"""Our own estimators where the truth is known: the true decoder, and Gaussian proposals with the true moments."""

from torch import Tensor

from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.metrics import HeldOut, held_out, mutual_information
from fairseq_seqvae.oracle.latent_model import LatentOracle
from fairseq_seqvae.oracle.quadrature import Truth


def proposals(truth: Truth) -> DiagonalGaussian:
    """q(z|x) with the mean and the standard deviations of each true posterior, (B, 2) float32.

    Like the posterior of a model it has independent dimensions, which the true one has not.
    """
    variances = truth.covariance.diagonal(dim1=1, dim2=2)
    return DiagonalGaussian(truth.mean.float(), variances.sqrt().float())


def estimates(
    oracle: LatentOracle, truth: Truth, tokens: Tensor, *, ids: Tensor, seed: int, num_samples: int
) -> tuple[HeldOut, float]:
    """Bounds of log p(x) and mutual information, as they are measured of a model, of the oracle itself.

    Args:
        truth: of *tokens*
        tokens: (B, T)
        ids: (B,), numbers of the sequences, for the noise
        num_samples: draws of z per sequence
    """
    posterior = proposals(truth)
    lengths = tokens.new_full((len(tokens),), tokens.size(1))
    bounds = held_out(oracle, posterior, tokens, lengths, ids=ids, seed=seed, num_samples=num_samples)
    return bounds, mutual_information(posterior, ids=ids, seed=seed)
