"""`python -m fairseq_seqvae.measure`: what a checkpoint says of held-out sequences, and how varied its samples are.

    python -m fairseq_seqvae.measure DATA --path CHECKPOINT --gen-subset test --temperatures 1,0.8

For any checkpoint of the task `seqvae` and any data that fairseq-preprocess has written. The numbers are those of
:mod:`fairseq_seqvae.evaluation`; samples are the same as fairseq-generate draws with the same --seed and --temperature.
"""

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fairseq_seqvae import compat, evaluation, noise, rollout
from fairseq_seqvae.command_line import positive, refuse_existing, report, temperatures
from fairseq_seqvae.files import whole_file
from fairseq_seqvae.noise import Stream

compat.require_fairseq()
compat.apply_shims()

from fairseq import checkpoint_utils  # noqa: E402

from fairseq_seqvae import criterions, generation, models, optim, scoring, tasks  # noqa: E402, F401  (registers)
from fairseq_seqvae.hub import refuse_other_tasks  # noqa: E402

_PROG = "python -m fairseq_seqvae.measure"
_BATCH = 512
_LONGEST_SAMPLE = 200  # fairseq-generate's default, where the model knows no fixed length


class HeldOutSet(NamedTuple):
    """Sequences of a split: ids (B,), their line numbers; tokens (B, T), padded; lengths (B,)."""

    ids: Tensor
    tokens: Tensor
    lengths: Tensor


def load(path: str | os.PathLike, data: str | os.PathLike, use_cuda: bool = False):
    """Model, without what only its training needs, and task of a checkpoint and a data folder."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no checkpoint {path}: give the file, such as checkpoints/checkpoint_best.pt")
    refuse_other_tasks(path)
    loaded, _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides={"data": str(data)})
    model = loaded[0]
    model.eval()
    return model.cuda() if use_cuda else model, task


def read_split(task, split: str, number: int | None = None) -> HeldOutSet:
    """The first *number* sequences of a split (default: all)."""
    task.load_dataset(split)
    dataset = task.dataset(split)
    ids = torch.from_numpy(np.flatnonzero(~dataset.empty)[:number])
    rows = [dataset.src[int(i)].long() for i in ids]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=task.dictionary.pad())
    return HeldOutSet(ids, tokens, lengths)


@torch.no_grad()
def measure_held_out(
    model, held_out_set: HeldOutSet, taus: Sequence[float], num_samples: int, seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Likelihood bounds and use of the latent: figures for a report, and arrays of values of each sequence.

    Figures are nats a token in ``nll`` (a mean weighted by length, with its standard error over sequences), nats a
    sequence in all others. One entry a temperature where there are lists.
    """
    device = next(model.parameters()).device
    ids, tokens, lengths = (part.to(device) for part in held_out_set)
    parts = [model.encoder.posterior(t, n) for t, n in zip(tokens.split(_BATCH), lengths.split(_BATCH), strict=True)]
    posterior = type(parts[0])(*(torch.cat(values) for values in zip(*parts, strict=True)))
    found = evaluation.held_out(
        model.decoder,
        posterior,
        tokens,
        lengths,
        ids=ids,
        seed=seed,
        num_samples=num_samples,
        eos=model.decoder.eos,
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
        "mutual_information": evaluation.mutual_information(posterior, ids=ids, seed=seed),
        "active_units": evaluation.active_units(posterior),
        "latent_dim": posterior.mean.size(1),
    }
    arrays = {"ids": ids, "lengths": lengths, "log_likelihood": found.bound, "elbo": found.elbo, "kl": found.kl}
    return figures, {name: value.cpu().numpy() for name, value in arrays.items()}


@torch.no_grad()
def prior_samples(model, number: int, seed: int, temperature: float = 1.0) -> rollout.Samples:
    """The sequences that fairseq-generate draws with --gen-subset prior --sampling --beam 1 --unkpen 1000."""
    decoder = model.decoder
    parts = []
    for ids in torch.arange(number, device=next(model.parameters()).device).split(_BATCH):
        parts.append(
            rollout.sample(
                decoder,
                generation.prior_latent(model, ids, seed),
                noise.row_keys(seed, 0, Stream.GENERATION, ids),
                decoder.fixed_length or min(_LONGEST_SAMPLE, model.max_decoder_positions() - 1),
                decoder.eos,
                decoder.pad,
                temperature=temperature,
                unk=decoder.unk,
                unk_penalty=1000.0,
            )
        )
    width = max(part.tokens.size(1) for part in parts)
    padded = [torch.nn.functional.pad(p.tokens, (0, width - p.tokens.size(1)), value=decoder.pad) for p in parts]
    return rollout.Samples(torch.cat(padded), torch.cat([part.lengths for part in parts]), None)


def variety(tokens: Tensor, lengths: Tensor) -> dict[str, int]:
    """Counts of different sequences and bigrams among samples (B, T)."""
    distinct_bigrams, bigrams = evaluation.distinct_ngrams(tokens, lengths, 2)
    return {
        "samples": len(tokens),
        "distinct_sequences": evaluation.distinct_sequences(tokens, lengths),
        "bigrams": bigrams,
        "distinct_bigrams": distinct_bigrams,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    return report(_PROG, _run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    if args.out:
        refuse_existing([args.out], args.force)
    model, task = load(args.path, args.data, use_cuda=torch.cuda.is_available() and not args.cpu)
    held_out_set = read_split(task, args.gen_subset, args.sequences)
    figures, arrays = measure_held_out(model, held_out_set, args.temperatures, args.importance_samples, args.seed)
    figures = {"checkpoint": args.path, "subset": args.gen_subset, **figures}
    if args.num_draws:
        drawn = [prior_samples(model, args.num_draws, args.seed, tau) for tau in args.temperatures]
        figures["samples"] = [variety(samples.tokens, samples.lengths) for samples in drawn]
    if args.out:
        buffer = io.BytesIO()  # where a zip file cannot be written, it complains after the error
        np.savez_compressed(buffer, temperatures=args.temperatures, **arrays)
        with whole_file(args.out) as partial:
            partial.write_bytes(buffer.getbuffer())
    print(json.dumps(figures) if args.json else _sentences(figures))


def _sentences(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['sequences']} sequences of {figures['subset']}, {figures['tokens']} tokens, "
        f"{figures['importance_samples']} importance samples each"
    ]
    for i, tau in enumerate(figures["temperatures"]):
        line = (
            f"temperature {tau:g}: NLL {figures['nll'][i]:.4f} +- {figures['nll_standard_error'][i]:.4f} nats per "
            f"token, {figures['nll_per_sequence'][i]:.3f} per sequence (ELBO {-figures['elbo_per_sequence'][i]:.3f})"
        )
        if "samples" in figures:
            sampled = figures["samples"][i]
            line += (
                f"; {sampled['distinct_sequences']} of {sampled['samples']} samples and {sampled['distinct_bigrams']} "
                f"of {sampled['bigrams']} bigrams distinct"
            )
        lines.append(line)
    lines.append(
        f"KL {figures['kl']:.4f}, mutual information {figures['mutual_information']:.4f} nats per sequence, "
        f"{figures['active_units']} of {figures['latent_dim']} units active"
    )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description="Likelihood of held-out sequences (importance-weighted bound), KL, mutual information, active "
        "units, and variety of samples.",
        epilog=f"example:\n  {_PROG} data --path checkpoints/checkpoint_best.pt --temperatures 1,0.8 --num-draws 1000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", help="folder written by fairseq-preprocess")
    parser.add_argument("--path", required=True, metavar="FILE", help="checkpoint")
    parser.add_argument("--gen-subset", default="test", metavar="SPLIT", help="split (default: %(default)s)")
    parser.add_argument(
        "--sequences", type=positive, default=1000, metavar="N", help="its first N sequences (default: %(default)s)"
    )
    parser.add_argument(
        "--importance-samples", type=positive, default=64, metavar="K", help="draws of z a sequence (default: 64)"
    )
    parser.add_argument(
        "--temperatures", type=temperatures, default=[1.0], metavar="TAU,...", help="of the decoder (default: 1)"
    )
    parser.add_argument(
        "--num-draws", type=int, default=0, metavar="N", help="also draw N samples from the prior (default: none)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of all draws (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--json", action="store_true", help="print an object of JSON instead of sentences")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the values of each sequence, as .npz")
    parser.add_argument("--force", action="store_true", help="overwrite that file")
    return parser


if __name__ == "__main__":
    logging.disable(logging.INFO)  # what fairseq says of reading a checkpoint
    sys.exit(main())
