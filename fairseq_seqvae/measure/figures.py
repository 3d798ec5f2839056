"""The figures of one checkpoint on held-out sequences, and its samples from the prior."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fairseq import checkpoint_utils
from torch import Tensor

from fairseq_seqvae import metrics, register
from fairseq_seqvae.core.conditions import ConditionedPosterior, ConditionedPrior
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import Samples, SamplingOptions
from fairseq_seqvae.core.rollouts.rollout import sample
from fairseq_seqvae.core.sequences import padding_mask
from fairseq_seqvae.inference import latents
from fairseq_seqvae.inference.hub import refuse_other_tasks

_BATCH = 512
_LONGEST_SAMPLE = 200  # fairseq-generate's default, where the model knows no fixed length


class HeldOutSet(NamedTuple):
    """Sequences of a split.

    Attributes:
        ids: (B,), their line numbers
        tokens: (B, T), padded
        lengths: (B,)
        labels: (B,), where they have such
    """

    ids: Tensor
    tokens: Tensor
    lengths: Tensor
    labels: Tensor | None = None

    def to(self, device: torch.device) -> "HeldOutSet":
        """The same on a device."""
        return HeldOutSet(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


def load(path: str | os.PathLike, data: str | os.PathLike, use_cuda: bool = False) -> tuple[Any, Any]:
    """Model, without what only its training needs, and task of a checkpoint and a data folder."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no checkpoint {path}: give the file, such as checkpoints/checkpoint_best.pt")
    register()
    refuse_other_tasks(path)
    loaded, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides={"data": str(data)})
    model = loaded[0]
    model.eval()
    return model.cuda() if use_cuda else model, task


def read_split(task: Any, split: str, number: int | None = None) -> HeldOutSet:
    """The first *number* sequences of a split (default: all)."""
    task.load_dataset(split)
    dataset = task.dataset(split)
    ids = torch.from_numpy(np.flatnonzero(~dataset.empty)[:number])
    rows = [dataset.src[int(i)].long() for i in ids]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=task.dictionary.pad())
    return HeldOutSet(ids, tokens, lengths, None if dataset.labels is None else dataset.labels[ids])


def read_lines(path: Path, task: Any) -> HeldOutSet:
    """The sequences of a file: a line each, symbols of the dictionary, separated by blanks. Empty lines are left out.

    Raises:
        ValueError: a line has another symbol, or not the length that the model knows; there is no line
    """
    rows, numbers = [], []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start}): give lines of symbols, such as those of `select`."
        ) from error
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        row = task.dictionary.encode_line(line, add_if_not_exist=False, append_eos=not task.fixed_length).long()
        if (row == task.dictionary.unk()).any():
            unknown = next(symbol for symbol in line.split() if task.dictionary.index(symbol) == task.dictionary.unk())
            raise ValueError(f"{path}, line {number + 1}: the symbol {unknown!r} is not in the dictionary of the data.")
        if task.fixed_length and len(row) != task.fixed_length:
            raise ValueError(
                f"{path}, line {number + 1} has {len(row)} symbols: the model knows sequences of {task.fixed_length} "
                f"only."
            )
        rows.append(row)
        numbers.append(number)
    if not rows:
        raise ValueError(f"{path} has no line with symbols.")
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=task.dictionary.pad())
    return HeldOutSet(torch.tensor(numbers), tokens, torch.tensor([len(row) for row in rows]))


@torch.no_grad()
def measure_held_out(
    model: Any, held_out_set: HeldOutSet, taus: Sequence[float], num_samples: int, seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Likelihood bounds and use of the latent: figures for a report, and arrays of values of each sequence.

    Figures are nats per token in ``nll`` (a mean weighted by length, with its standard error over sequences), nats a
    sequence in all others. One entry a temperature where there are lists.
    """
    ids, tokens, lengths, labels = held_out_set = held_out_set.to(next(model.parameters()).device)
    posterior = _posterior(model, held_out_set)
    found = metrics.held_out(
        model.decoder,
        posterior if labels is None else ConditionedPosterior(posterior, labels),
        tokens,
        lengths,
        ids=ids,
        seed=seed,
        num_samples=num_samples,
        temperatures=taus,
    )
    count, mean_length = len(tokens), float(lengths.double().mean())
    # Of a ratio of means: the spread of what each sequence adds beyond its length's share.
    nll = -found.bound.mean(dim=0) / mean_length
    spread = (-found.bound - lengths.unsqueeze(1) * nll).std(dim=0) / mean_length / count**0.5
    figures = {
        "sequences": count,
        "tokens": int(lengths.sum()),
        "importance_samples": num_samples if posterior.mean.size(1) else 1,
        "temperatures": list(taus),
        "nll": nll.tolist(),
        "nll_standard_error": spread.tolist(),
        "nll_per_sequence": (-found.bound.mean(dim=0)).tolist(),
        "elbo_per_sequence": found.elbo.mean(dim=0).tolist(),
        "kl": float(found.kl.mean()),
        **_applied(metrics.LATENT_METRICS, posterior, ids=ids, seed=seed),
        "mutual_information_ceiling": math.log(count),
        "latent_dim": posterior.mean.size(1),
    }
    arrays = {"ids": ids, "lengths": lengths, "log_likelihood": found.bound, "elbo": found.elbo, "kl": found.kl}
    return figures, {name: value.cpu().numpy() for name, value in arrays.items()}


@torch.no_grad()
def measure_reconstruction(
    model: Any, held_out_set: HeldOutSet, dictionary: Any, seed: int, num_walks: int, walk_points: int
) -> dict[str, float]:
    """What comes back of held-out sequences, and how walks between pairs of them go: figures for a report.

    Nothing for a model without a latent space.

    Args:
        dictionary: fairseq's, which says whether tokens are notes
        num_walks: most walks; 0: none
        walk_points: points of each walk
    """
    if not model.prior.dim:
        return {}
    ids, tokens, lengths, labels = held_out_set = held_out_set.to(next(model.parameters()).device)
    notes = metrics.note_tokens(dictionary)
    notes = None if notes is None else notes.to(tokens.device)
    posterior, prior = _posterior(model, held_out_set), model.prior
    if labels is not None:
        posterior, prior = ConditionedPosterior(posterior, labels), ConditionedPrior(prior, labels)
    made = metrics.Reconstruction(model.decoder, prior, posterior, tokens, lengths, ids, seed, notes)
    figures = _applied(metrics.RECONSTRUCTION_METRICS, made)
    if num_walks and len(tokens) > 1:
        figures |= metrics.walk_figures(made, num_walks, walk_points)
    return figures


def _posterior(model: Any, held_out_set: HeldOutSet) -> Any:
    """q(z|x) of all sequences."""
    given = [part.split(_BATCH) for part in held_out_set[1:] if part is not None]
    parts = [model.encoder.posterior(*some) for some in zip(*given, strict=True)]
    return type(parts[0]).cat(parts)


def _applied(registry: Any, *arguments: Any, **options: Any) -> dict[str, float]:
    """The numbers of all metrics of a registry that apply."""
    found = {name: metric(*arguments, **options) for name, metric in registry.items()}
    return {name: value for name, value in found.items() if value is not None}


@torch.no_grad()
def prior_samples(model: Any, number: int, seed: int, temperature: float = 1.0, prior: str = "model") -> Samples:
    """The sequences that fairseq-generate draws with --gen-subset prior --sampling --beam 1 --unkpen 1000.

    Args:
        prior: that of --prior, ``model`` or ``fitted``
    """
    decoder = model.decoder
    max_len = decoder.fixed_length or min(_LONGEST_SAMPLE, model.max_decoder_positions() - 1)
    options = SamplingOptions(temperature=temperature, unk=decoder.unk, unk_penalty=1000.0)
    parts = []
    for ids in torch.arange(number, device=next(model.parameters()).device).split(_BATCH):
        keys = Draws(seed).keys(Stream.GENERATION, ids)
        parts.append(sample(decoder, latents.prior_code(model, ids, seed, prior), keys, max_len, options))
    width = max(part.tokens.size(1) for part in parts)
    padded = [torch.nn.functional.pad(p.tokens, (0, width - p.tokens.size(1)), value=decoder.pad) for p in parts]
    lengths = torch.cat([part.lengths for part in parts])
    return Samples(torch.cat(padded), lengths, padding_mask(lengths, width))


def whole_draws(model: Any, drawn: Samples) -> Tensor:
    """Numbers (N,) of the draws that are sequences as *model* knows them: not empty, and with an end."""
    fixed, eos = model.decoder.fixed_length, model.decoder.eos
    if fixed:
        return (drawn.lengths == fixed).nonzero().squeeze(1)
    last = drawn.tokens.gather(1, (drawn.lengths - 1).unsqueeze(1)).squeeze(1)
    return ((last == eos) & (drawn.lengths > 1)).nonzero().squeeze(1)


@torch.no_grad()
def divergence_from(reference: Any, model: Any, drawn: Samples, seed: int, temperature: float = 1.0) -> Tensor:
    """Divergence of a model from another one, (B,), nats: see :func:`fairseq_seqvae.metrics.sequence_divergence`.

    Args:
        reference: a model with the same prior, at temperature 1
        model: the one that has drawn
        drawn: by :func:`prior_samples` with the same *seed* and *temperature*
    """
    rows = torch.arange(len(drawn.tokens), device=drawn.tokens.device)
    parts = []
    for some in rows.split(_BATCH):
        z = latents.prior_latent(model, some, seed)
        own = drawn.tokens[some], drawn.lengths[some]
        parts.append(metrics.sequence_divergence(model.decoder, reference.decoder, z, *own, temperature))
    return torch.cat(parts)


def variety(tokens: Tensor, lengths: Tensor) -> dict[str, int]:
    """Counts of different sequences and bigrams among samples (B, T)."""
    return {"samples": len(tokens)} | {name: metric(tokens, lengths) for name, metric in metrics.SAMPLE_METRICS.items()}
