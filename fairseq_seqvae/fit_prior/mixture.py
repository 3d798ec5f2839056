"""A mixture of Gaussians fitted to latent vectors, or made of posteriors."""

import warnings

import numpy as np
import torch

from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.core.latents.mixture import GaussianMixturePrior


def of_exemplars(posteriors: DiagonalGaussian) -> GaussianMixturePrior:
    """The posteriors of N sequences as N components of the same weight.

    Tomczak, Welling 2018, "VAE with a VampPrior"; Norouzi et al. 2020, "Exemplar VAE", where they are training data.
    """
    count = len(posteriors.mean)
    return GaussianMixturePrior(torch.full((count,), 1 / count), posteriors.mean, posteriors.std)


def fit(points: np.ndarray, components: int, covariance: str = "full", seed: int = 1) -> GaussianMixturePrior:
    """The mixture that is likeliest to have made *points* (N, Z), by expectation maximisation from k-means.

    Args:
        covariance: ``full``, or ``diag``: the dimensions of a component are independent

    Raises:
        ImportError: scikit-learn is missing
        ValueError: there are fewer points than components
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ImportError("fitting a prior needs scikit-learn: pip install scikit-learn") from error
    if len(points) < max(2, components):
        raise ValueError(f"--components {components} needs at least as many sequences, but there are {len(points)}.")
    mixture = GaussianMixture(components, covariance_type=covariance, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # The likelihood hardly moves any more, or there are fewer different points than components.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(points)
    factors = np.sqrt(mixture.covariances_) if covariance == "diag" else np.linalg.cholesky(mixture.covariances_)
    return GaussianMixturePrior(*(torch.from_numpy(part) for part in (mixture.weights_, mixture.means_, factors)))
