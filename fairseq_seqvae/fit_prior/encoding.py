"""Posteriors q(z|x) of sequences: of a split, or of what a model draws."""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian, StandardNormal
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.measure.figures import HeldOutSet, prior_samples, read_lines, read_split, whole_draws

logger = logging.getLogger(__name__)

_BATCH = 512


class Encoded(NamedTuple):
    """Sequences as the encoder sees them.

    Attributes:
        ids: (N,), their numbers, which choose the noise of :meth:`points`
        posteriors: of N sequences, on the CPU
    """

    ids: Tensor
    posteriors: DiagonalGaussian

    def points(self, source: str = "means", seed: int = 1) -> np.ndarray:
        """Latent vectors (N, Z), float64.

        Args:
            source: ``means`` of the posteriors, or ``samples``: the draws that --latent sample takes
            seed: of the samples
        """
        z = self.posteriors.mean
        if source == "samples":
            z = self.posteriors.sample(Draws(seed).normal(Stream.POSTERIOR, self.ids, self.posteriors.noise_dim))
        return z.double().numpy()


def refuse_unsuited(model: Any) -> None:
    """Raise a ValueError for a model whose latent space is not that of N(0, I)."""
    if model.prior.dim == 0:
        raise ValueError("the model has no latent vector (--latent-dim 0): there is nothing to fit.")
    if not isinstance(model.prior, StandardNormal):
        raise ValueError(
            f"a mixture of Gaussians needs Gaussian posteriors, but the prior of this model is a "
            f"{type(model.prior).__name__}: give a checkpoint of --latent-family gaussian or delta."
        )


def encode_split(model: Any, task: Any, split: str, number: int | None = None) -> Encoded:
    """The first *number* sequences of a split (default: all)."""
    return _encode(model, read_split(task, split, number))


def encode_lines(model: Any, task: Any, path: Path, number: int | None = None) -> Encoded:
    """The first *number* lines of a file (default: all), symbols of the dictionary; those too long are left out.

    Raises:
        ValueError: a line is not a sequence of the model, hardly a line is left, or labels are needed
    """
    _refuse_labels(model)
    read = HeldOutSet(*(part[:number] for part in read_lines(path, task)[:3]))
    longest = model.encoder.max_positions()
    rows = (read.lengths <= longest).nonzero().squeeze(1)
    if len(rows) < len(read.ids):
        first = int((read.lengths > longest).nonzero()[0])
        told = (
            f"{path}: {len(read.ids) - len(rows)} of {len(read.ids)} lines have more than the {longest} tokens that "
            f"the encoder reads, the first of them line {int(read.ids[first]) + 1} with {int(read.lengths[first])}"
        )
        if len(rows) < 2:
            raise ValueError(f"{told}: give lines that are shorter.")
        logger.warning("%s; they are left out.", told)
    return _encode(model, HeldOutSet(*(part[rows] for part in read[:3])))


def encode_draws(model: Any, drawing: Any, number: int, seed: int, temperature: float = 1.0) -> Encoded:
    """What the model *drawing* draws from its prior; without draws that are empty or do not end, or too long.

    Args:
        number: of draws
        seed: of the draws
        temperature: of its decoder

    Raises:
        ValueError: the two models are of different sequences, labels are needed, or hardly a draw is left
    """
    fixed, other = model.decoder.fixed_length, drawing.decoder.fixed_length
    if fixed != other:
        raise ValueError(f"its sequences differ from the model's: --fixed-length {other} there, {fixed} here.")
    _refuse_labels(model)
    drawn = prior_samples(drawing, number, seed, temperature)
    ids = whole_draws(drawing, drawn)
    ids = ids[drawn.lengths[ids] <= model.encoder.max_positions()]
    if len(ids) < 2:
        raise ValueError(
            f"{len(ids)} of its {number} draws are sequences that the encoder can read (not empty, with an end, at "
            f"most {model.encoder.max_positions()} tokens): train it longer, or draw more (--sequences)."
        )
    return _encode(model, HeldOutSet(ids.cpu(), drawn.tokens[ids].cpu(), drawn.lengths[ids].cpu()))


def _refuse_labels(model: Any) -> None:
    if model.conditions is not None:
        raise ValueError(
            "the encoder needs labels (--labels), which draws and lines do not have: encode a split instead."
        )


@torch.no_grad()
def _encode(model: Any, sequences: HeldOutSet) -> Encoded:
    device = next(model.parameters()).device
    parts = []
    for some in torch.arange(len(sequences.ids)).split(_BATCH):
        lengths = sequences.lengths[some].to(device)
        tokens = sequences.tokens[some, : int(lengths.max())].to(device)
        labels = None if sequences.labels is None else sequences.labels[some].to(device)
        parts.append(model.encoder.posterior(tokens, lengths, labels))
    together = DiagonalGaussian.cat(parts)
    return Encoded(sequences.ids, DiagonalGaussian(together.mean.cpu(), together.std.cpu()))
