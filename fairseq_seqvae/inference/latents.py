"""Latent vectors of sentences, of draws from the prior, and of walks."""

from typing import Any

import torch
from fairseq.data import data_utils
from torch import Tensor

from fairseq_seqvae.core.conditions import joined
from fairseq_seqvae.core.latents.base import Prior
from fairseq_seqvae.core.noise import Draws, Stream


def without_eos(tokens: Tensor, eos: int, pad: int) -> Tensor:
    """Prompts (B, T) without their EOS, padded on the right; T may become 0."""
    tokens = tokens.masked_fill(tokens == eos, pad)
    return tokens[:, : int((tokens != pad).sum(dim=1).max())]


def prefixes_as_sources(prefixes: Tensor, eos: int, pad: int, with_eos: bool) -> tuple[Tensor, Tensor]:
    """Prefixes (B, P), padded with *pad*, as inputs of an encoder: tokens and lengths (B,).

    Args:
        with_eos: end them with EOS, as the sentences that the model knows
    """
    prefixes = prefixes.masked_fill(prefixes == eos, pad)
    lengths = (prefixes != pad).sum(dim=1)
    if not with_eos:
        return prefixes, lengths
    sources = torch.cat([prefixes, prefixes.new_full((prefixes.size(0), 1), pad)], dim=1)
    return sources.scatter(1, lengths.unsqueeze(1), eos), lengths + 1


def latent_dim(model: Any) -> int:
    """Z of a model."""
    return model.prior.dim


def prior_of(model: Any, prior: str) -> Prior:
    """The prior ``model``, which the model was trained with, or the one that was ``fitted`` to it afterwards.

    Raises:
        ValueError: there is no fitted one
    """
    if prior == "model":
        return model.prior
    if prior != "fitted":
        raise ValueError(f"`prior` must be 'model' or 'fitted' but is {prior!r}.")
    if getattr(model, "fitted_prior", None) is None:
        raise ValueError(
            "the checkpoint has no fitted prior, which --prior fitted asks for: make a file that has one by "
            "python -m fairseq_seqvae fit-prior DATA --path CHECKPOINT --out FILE, and use that."
        )
    return model.fitted_prior


def prior_latent(model: Any, ids: Tensor, seed: int, prior: str = "model") -> Tensor:
    """Draws from the prior by number, (B, Z); see :func:`prior_of`."""
    chosen = prior_of(model, prior)
    stream = Stream.PRIOR if prior == "model" else Stream.FITTED_PRIOR
    return chosen.sample(Draws(seed).normal(stream, ids, chosen.noise_dim))


def prior_code(model: Any, ids: Tensor, seed: int, prior: str = "model") -> Tensor:
    """What the decoder starts from: :func:`prior_latent`, and as its last column a label where the model knows labels.

    The labels are as frequent as in the training data.
    """
    z = prior_latent(model, ids, seed, prior)
    if model.conditions is None:
        return z
    return joined(z, model.conditions.draw(Draws(seed), ids, Stream.GENERATION_CONDITION))


def latent_of_sentences(
    models: list[Any],
    tokens: Tensor,
    lengths: Tensor,
    ids: Tensor,
    latent: str,
    seed: int,
    prior: str = "model",
    labels: Tensor | None = None,
) -> Tensor | None:
    """Latent vectors of sentences, (B, Z); None leaves it to each model to take the mean of its posterior.

    Args:
        tokens: (B, T), padded on the right
        lengths: (B,)
        ids: (B,), numbers of the sentences
        latent: ``mean``, ``sample`` (of the posterior) or ``prior``
        prior: see :func:`prior_of`
        labels: (B,), of the sentences, where they have such
    """
    if latent == "mean":
        return None
    if latent == "prior":
        return prior_latent(models[0], ids, seed, prior)
    if len(models) > 1:
        raise ValueError("--latent sample needs one model, but --path names several: their latent spaces differ.")
    posterior = models[0].encoder.posterior(tokens, lengths, labels)
    return posterior.sample(Draws(seed).normal(Stream.POSTERIOR, ids, posterior.noise_dim))


def posterior_means(
    models: list[Any], sentences: list[Tensor], pad: int, device: torch.device, labels: Tensor | None = None
) -> Tensor:
    """Means of q(z|x), (B, Z), of *sentences*, each (T,) with EOS, and of their *labels* (B,) where they have such."""
    if len(models) > 1:
        raise ValueError("walking between sentences needs one model, but --path names several.")
    tokens = data_utils.collate_tokens(sentences, pad, left_pad=False).to(device)
    lengths = torch.tensor([len(s) for s in sentences], device=device)
    return models[0].encoder.posterior(tokens, lengths, labels).mean


def interpolated_latent(
    model: Any, ids: Tensor, num_points: int, seed: int, ends: Tensor | None = None, prior: str = "model"
) -> Tensor:
    """Points *ids* of *num_points* on the way between two latent vectors, (B, Z).

    Args:
        ids: (B,), 0 is one end and *num_points* - 1 the other
        ends: (2, Z), or None for two draws from the prior
        prior: see :func:`prior_of`

    Raises:
        ValueError: the model has no latent space (Z = 0).
    """
    if latent_dim(model) == 0:
        raise ValueError("there is nothing to walk through: the model was trained with --latent-dim 0.")
    if ends is None:
        ends = prior_latent(model, torch.arange(2, device=ids.device), seed, prior)
    weight = ids.to(ends.dtype) / max(1, num_points - 1)
    return prior_of(model, prior).walk(ends[:1].expand(len(ids), -1), ends[1:].expand(len(ids), -1), weight)
