"""Latent vectors of a split, and a mixture of Gaussians fitted to them."""

import warnings
from typing import Any

import numpy as np
import torch

from fairseq_seqvae.core.latents.gaussian import StandardNormal
from fairseq_seqvae.core.latents.mixture import GaussianMixturePrior
from fairseq_seqvae.core.noise import Draws, Stream

_BATCH = 512


def refuse_unsuited(model: Any) -> None:
    """Raise a ValueError for a model whose latent space is not that of N(0, I)."""
    if model.prior.dim == 0:
        raise ValueError("the model has no latent vector (--latent-dim 0): there is nothing to fit.")
    if not isinstance(model.prior, StandardNormal):
        raise ValueError(
            f"a mixture of Gaussians needs Gaussian posteriors, but the prior of this model is a "
            f"{type(model.prior).__name__}: give a checkpoint of --latent-family gaussian or delta."
        )


@torch.no_grad()
def encode(
    model: Any, task: Any, split: str, number: int | None = None, source: str = "means", seed: int = 1
) -> np.ndarray:
    """Latent vectors (N, Z) of the first *number* sequences of a split (default: all), float64.

    Args:
        source: ``means`` of the posteriors, or ``samples``: the draws that --latent sample takes
        seed: of the samples
    """
    task.load_dataset(split)
    dataset, pad = task.dataset(split), task.dictionary.pad()
    device = next(model.parameters()).device
    found = []
    for ids in torch.from_numpy(np.flatnonzero(~dataset.empty)[:number]).split(_BATCH):
        rows = [dataset.src[int(i)].long() for i in ids]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad).to(device)
        labels = None if dataset.labels is None else dataset.labels[ids].to(device)
        posterior = model.encoder.posterior(tokens, lengths, labels)
        z = posterior.mean
        if source == "samples":
            z = posterior.sample(Draws(seed).normal(Stream.POSTERIOR, ids.to(device), posterior.noise_dim))
        found.append(z.double().cpu().numpy())
    return np.concatenate(found)


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
