"""`python -m fairseq_seqvae compare`: a checkpoint against the truth of the oracle with a latent.

    python -m fairseq_seqvae compare DATA --path CHECKPOINT

What the model found of held-out sequences (bounds of log p(x), KL, mutual information) beside what there is, by
quadrature. The same estimators are also applied to the true decoder: what they miss there is their own error.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae import compat
from fairseq_seqvae.oracle.latent_check import estimates
from fairseq_seqvae.oracle.latent_commands import add_seed
from fairseq_seqvae.oracle.latent_model import LatentOracle
from fairseq_seqvae.oracle.latent_truth import summarise
from fairseq_seqvae.oracle.model import estimate
from fairseq_seqvae.oracle.quadrature import Truth
from fairseq_seqvae.oracle.score import parse_tokens
from fairseq_seqvae.support.command_line import positive, report

_PROG = "python -m fairseq_seqvae compare"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    return report(_PROG, _run, _parser().parse_args(argv))


def true_values(oracle: LatentOracle, task: Any, held_out_set: Any, split: str) -> tuple[Tensor, Truth]:
    """Sequences of a split as the oracle numbers their tokens, (B, T), and the truth about them."""
    texts = [(f"sentence {i}", task.dictionary.string(row)) for i, row in zip(*held_out_set[:2], strict=True)]
    tokens = parse_tokens(texts, oracle.vocab_size, split)
    return tokens, oracle.truth(tokens)


def against_truth(truth: Truth, figures: dict[str, Any], arrays: dict[str, Any]) -> dict[str, float]:
    """How far bounds are below the truth, nats per sequence, and which share of the information was found.

    Args:
        figures: of `measure_held_out`
        arrays: of the same, with one temperature
    """
    found: dict[str, float] = {}
    for name, key in (("bound", "log_likelihood"), ("elbo", "elbo")):
        mean, error = estimate(truth.log_likelihood - torch.from_numpy(arrays[key])[:, 0])
        found |= {f"{name}_gap": mean, f"{name}_gap_standard_error": error}
    information = float(truth.divergence.double().mean())
    for key in ("kl", "mutual_information"):
        found[f"{key}_share"] = figures[key] / information
    return found


def _run(args: argparse.Namespace) -> None:
    compat.require_fairseq()
    from fairseq_seqvae.measure.figures import load, measure_held_out, read_split

    model, task = load(args.path, args.data, use_cuda=torch.cuda.is_available() and not args.cpu)
    held_out_set = read_split(task, args.gen_subset, args.sequences)
    oracle = LatentOracle.from_seed(args.oracle_seed)
    tokens, truth = true_values(oracle, task, held_out_set, args.gen_subset)
    figures, arrays = measure_held_out(model, held_out_set, [1.0], args.importance_samples, args.seed)
    own, own_information = estimates(
        oracle, truth, tokens, ids=held_out_set.ids, seed=args.seed, num_samples=args.importance_samples
    )
    true = summarise(truth, tokens.size(1))
    result: dict[str, Any] = {"checkpoint": args.path, "oracle_seed": args.oracle_seed, "subset": args.gen_subset}
    result |= {"importance_samples": args.importance_samples, "truth": true, "found": figures}
    result |= against_truth(truth, figures, arrays)
    result["estimators"] = {
        "bound_gap": estimate(truth.log_likelihood - own.bound[:, 0]).mean,
        "elbo_gap": estimate(truth.log_likelihood - own.elbo[:, 0]).mean,
        "mutual_information_share": own_information / true["mutual_information"],
    }
    print(json.dumps(result) if args.json else _sentences(result))


def _sentences(result: dict[str, Any]) -> str:
    true, found, own = result["truth"], result["found"], result["estimators"]
    return "\n".join(
        [
            f"{true['sequences']} sequences of {result['subset']}, nats per sequence; "
            f"{result['importance_samples']} importance samples each",
            f"truth: -log p(x) {true['nll_per_sequence']:.3f} +- {true['nll_per_sequence_standard_error']:.3f}, mutual "
            f"information {true['mutual_information']:.3f} +- {true['mutual_information_standard_error']:.3f}",
            f"model: bound {result['bound_gap']:.3f} +- {result['bound_gap_standard_error']:.3f} below the truth, ELBO "
            f"{result['elbo_gap']:.3f} +- {result['elbo_gap_standard_error']:.3f}",
            f"model: KL {found['kl']:.3f}, {result['kl_share']:.2f} of the true mutual information; mutual information "
            f"{found['mutual_information']:.3f}, {result['mutual_information_share']:.2f} of it; "
            f"{found['active_units']} of {found['latent_dim']} units active",
            f"the same estimators on the true decoder: bound {own['bound_gap']:.3f} below the truth, ELBO "
            f"{own['elbo_gap']:.3f}, mutual information {own['mutual_information_share']:.2f} of the true",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description="What a checkpoint found of the oracle with a latent, and what there is: bounds of log p(x) less "
        "the truth, KL and mutual information as shares of the true mutual information.",
        epilog=f"example:\n  {_PROG} runs/latent/data --path runs/latent/checkpoints/checkpoint_best.pt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="DATA", help="folder that fairseq-preprocess wrote of latent-generate's data")
    parser.add_argument("--path", required=True, metavar="FILE", help="checkpoint")
    add_seed(parser)
    parser.add_argument("--gen-subset", default="test", metavar="SPLIT", help="split (default: %(default)s)")
    parser.add_argument(
        "--sequences", type=positive, default=1000, metavar="N", help="its first N sequences (default: %(default)s)"
    )
    parser.add_argument(
        "--importance-samples", type=positive, default=64, metavar="K", help="draws of z per sequence (default: 64)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of all draws (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--json", action="store_true", help="print an object of JSON instead of sentences")
    return parser
