"""The commands of the oracle with a latent: `latent-generate`, `latent-nll`, `latent-truth`."""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from fairseq_seqvae.oracle import data
from fairseq_seqvae.oracle.latent_model import LatentOracle
from fairseq_seqvae.oracle.latent_truth import summarise
from fairseq_seqvae.oracle.score import read_tokens, score
from fairseq_seqvae.support.command_line import Commands, positive, refuse_existing, seed

SEED = 3
LENGTH = 10
SIZES = {"train": 16_000, "valid": 2_000, "test": 2_000}


def add_to(commands: Commands) -> None:
    """Add the commands to those of the oracle."""

    def command(name: str, run: Callable, summary: str, example: str) -> argparse.ArgumentParser:
        added = commands.add(name, run, summary, example)
        add_seed(added)
        return added

    added = command(
        "latent-generate", _generate, "data of the oracle with a latent", "latent-generate --out runs/latent/text"
    )
    added.add_argument("--length", type=positive, default=LENGTH, metavar="T", help="tokens (default: %(default)s)")
    for split, size in SIZES.items():
        added.add_argument(
            f"--{split}", type=positive, default=size, metavar="N", help="sequences (default: %(default)s)"
        )
    added.add_argument("--out", required=True, metavar="DIR", help="folder for the three splits and dict.txt")
    added.add_argument("--data-seed", type=seed, default=1, metavar="N", help="seed of the data (default: %(default)s)")
    added.add_argument("--force", action="store_true", help="overwrite existing files")

    _add_file(command("latent-nll", _nll, "exact NLL of sequences", "latent-nll generated.txt"))
    added = command(
        "latent-truth",
        _truth,
        "entropy, mutual information of x and z, and posterior of the oracle's own samples",
        "latent-truth runs/latent/text/test.txt",
    )
    _add_file(added)
    added.add_argument("--sequences", type=positive, metavar="N", help="the first N sequences (default: all)")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Add the seed that the oracle is drawn from."""
    parser.add_argument(
        "--oracle-seed",
        type=seed,
        default=SEED,
        metavar="N",
        help="oracle of 1000 tokens with a latent in 2 dimensions, drawn from this seed (default: %(default)s)",
    )


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="output of fairseq-generate, or token lines such as test.txt")
    parser.add_argument(
        "--length", type=positive, metavar="T", help="require this many tokens (default: as the first sequence)"
    )
    parser.add_argument(
        "--kind", choices=("D", "H", "T"), default="D", help="lines of fairseq-generate's output (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print an object of JSON instead of sentences")


def _generate(args: argparse.Namespace) -> None:
    paths = data.data_paths(args.out)
    refuse_existing(paths, args.force)
    oracle = LatentOracle.from_seed(args.oracle_seed)
    splits = data.sample_splits(oracle, {split: getattr(args, split) for split in SIZES}, args.length, args.data_seed)
    data.write_data(splits, oracle.vocab_size, args.out)
    print(f"written: {', '.join(str(path) for path in paths)}")


def _nll(args: argparse.Namespace) -> None:
    oracle = LatentOracle.from_seed(args.oracle_seed)
    result = score(oracle, read_tokens(args.file, oracle.vocab_size, args.length, args.kind))
    print(as_json(args, result._asdict()) if args.json else result)


def _truth(args: argparse.Namespace) -> None:
    oracle = LatentOracle.from_seed(args.oracle_seed)
    tokens = read_tokens(args.file, oracle.vocab_size, args.length, args.kind)[: args.sequences]
    found = summarise(oracle.truth(tokens), tokens.size(1))
    if args.json:
        print(as_json(args, found))
        return
    print(
        f"{found['sequences']} sequences of {found['length']} tokens: -log p(x) {found['nll']:.4f} +- "
        f"{found['nll_standard_error']:.4f} nats per token, {found['nll_per_sequence']:.3f} +- "
        f"{found['nll_per_sequence_standard_error']:.3f} per sequence\n"
        f"mutual information of x and z {found['mutual_information']:.4f} +- "
        f"{found['mutual_information_standard_error']:.4f} nats per sequence\n"
        f"posterior: standard deviations {found['posterior_std'][0]:.3f} and {found['posterior_std'][1]:.3f} along its "
        f"axes (mean); quadrature: {found['evaluations']:.0f} points per sequence, last change at most "
        f"{found['largest_change']:.2g} nats"
    )


def as_json(args: argparse.Namespace, numbers: Mapping[str, Any]) -> str:
    """An object of JSON that says of which file and oracle the numbers are; nan, which JSON does not have, is null."""
    plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in numbers.items()}
    return json.dumps({"file": args.file, "oracle_seed": args.oracle_seed, **plain})
