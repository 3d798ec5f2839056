"""`python -m fairseq_seqvae.measure`: what a checkpoint says of held-out sequences, and how varied its samples are.

    python -m fairseq_seqvae.measure DATA --path CHECKPOINT --gen-subset test --temperatures 1,0.8

For any checkpoint of the task `seqvae` and any data that fairseq-preprocess has written. The numbers are those of
:mod:`fairseq_seqvae.metrics`; samples are the same as fairseq-generate draws with the same --seed and --temperature.
"""

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fairseq_seqvae import compat
from fairseq_seqvae.support.command_line import positive, refuse_existing, report, temperatures, whole
from fairseq_seqvae.support.extensions import import_module_files
from fairseq_seqvae.support.files import whole_file

_PROG = "python -m fairseq_seqvae.measure"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    return report(_PROG, _run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    compat.require_fairseq()
    from fairseq_seqvae.measure import figures as measure
    from fairseq_seqvae.measure.sentences import sentences

    import_module_files(args.module, "--module")
    if args.out:
        refuse_existing([args.out], args.force)
    model, task = measure.load(args.path, args.data, use_cuda=torch.cuda.is_available() and not args.cpu)
    held_out_set = measure.read_split(task, args.gen_subset, args.sequences)
    figures, arrays = measure.measure_held_out(
        model, held_out_set, args.temperatures, args.importance_samples, args.seed
    )
    figures = {"checkpoint": args.path, "subset": args.gen_subset, **figures}
    figures |= measure.measure_reconstruction(
        model, held_out_set, task.dictionary, args.seed, args.walks, args.walk_points
    )
    if args.num_draws:
        drawn = [measure.prior_samples(model, args.num_draws, args.seed, tau, args.prior) for tau in args.temperatures]
        figures["samples"] = [measure.variety(samples.tokens, samples.lengths) for samples in drawn]
    if args.out:
        buffer = io.BytesIO()  # where a zip file cannot be written, it complains after the error
        np.savez_compressed(buffer, temperatures=args.temperatures, **arrays)
        with whole_file(args.out) as partial:
            partial.write_bytes(buffer.getbuffer())
    print(json.dumps(figures) if args.json else sentences(figures))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description="Likelihood of held-out sequences (importance-weighted bound), KL, mutual information, active "
        "units, what greedy decoding gives back of them, walks between them, and variety of samples.",
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
        "--importance-samples", type=positive, default=64, metavar="K", help="draws of z per sequence (default: 64)"
    )
    parser.add_argument(
        "--temperatures", type=temperatures, default=[1.0], metavar="TAU,...", help="of the decoder (default: 1)"
    )
    _add_samples_and_walks(parser)
    parser.add_argument("--seed", type=int, default=1, help="seed of all draws (default: %(default)s)")
    parser.add_argument("--module", metavar="FILE", help="Python file that registers further metrics")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--json", action="store_true", help="print an object of JSON instead of sentences")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the values of each sequence, as .npz")
    parser.add_argument("--force", action="store_true", help="overwrite that file")
    return parser


def _add_samples_and_walks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-draws", type=int, default=0, metavar="N", help="also draw N samples from the prior (default: none)"
    )
    parser.add_argument(
        "--walks",
        type=whole(0),
        default=20,
        metavar="N",
        help="walk between N pairs of the sequences (default: %(default)s; 0: none)",
    )
    parser.add_argument(
        "--walk-points",
        type=whole(2),
        default=8,
        metavar="N",
        help="points of a walk, ends included (default: %(default)s)",
    )
    parser.add_argument(
        "--prior", choices=("model", "fitted"), default="model", help="prior of those samples (default: %(default)s)"
    )


if __name__ == "__main__":
    sys.exit(main())
