"""The commands `python -m fairseq_seqvae.oracle generate | nll | weights`, and those of the oracle with a latent."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fairseq_seqvae.oracle import data, latent_commands
from fairseq_seqvae.oracle.model import Oracle
from fairseq_seqvae.oracle.score import read_tokens, score
from fairseq_seqvae.support.command_line import Commands, positive, positive_number, refuse_existing, seed

_PROG = "python -m fairseq_seqvae.oracle"
_PAPER_SEED = 88


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 after one sentence about bad input on standard error."""
    return _commands().run(argv)


def _generate(args: argparse.Namespace) -> None:
    paths = data.data_paths(args.out)
    refuse_existing(paths, args.force)
    oracle = _oracle(args)
    sizes = {split: getattr(args, split) for split in data.DRAWS}
    splits = data.sample_splits(oracle, sizes, args.length, args.data_seed)
    data.write_data(splits, oracle.vocab_size, args.out)
    for split, tokens in splits.items():
        print(f"{split}: {score(oracle, tokens)}")
    print(f"written: {', '.join(str(path) for path in paths)}")


def _nll(args: argparse.Namespace) -> None:
    oracle = _oracle(args)
    result = score(oracle, read_tokens(args.file, oracle.vocab_size, args.length, args.kind))
    if args.json:
        numbers = result._asdict()
        if math.isnan(result.standard_error):
            numbers["standard_error"] = None  # JSON has no nan
        print(json.dumps({"file": args.file, "oracle": args.npz or _seeded(args), **numbers}))
    else:
        print(result)


def _weights(args: argparse.Namespace) -> None:
    refuse_existing([args.out], args.force)
    Oracle.from_seed(args.seed, args.vocab_size, scale=args.scale).save_npz(args.out)
    print(f"written: {args.out}, the arrays of an oracle of {args.vocab_size} tokens")


def _oracle(args: argparse.Namespace) -> Oracle:
    if args.npz and args.scale != 1:
        raise ValueError(f"--scale {args.scale:g} is for an oracle that --seed draws: omit it with --npz.")
    return Oracle.from_npz(args.npz) if args.npz else Oracle.from_seed(args.seed, scale=args.scale)


def _seeded(args: argparse.Namespace) -> str:
    return f"seed {args.seed}" + (f", scale {args.scale:g}" if args.scale != 1 else "")


def _commands() -> Commands:
    commands = Commands(
        _PROG, "The synthetic experiment: data from a random LSTM, and the judgement of that LSTM on samples."
    )

    def command(name: str, run: Callable, summary: str, example: str) -> argparse.ArgumentParser:
        added = commands.add(name, run, summary, example)
        which = added.add_mutually_exclusive_group()
        which.add_argument(
            "--seed",
            type=seed,
            default=_PAPER_SEED,
            metavar="N",
            help="oracle of 5000 tokens drawn from this seed (default: %(default)s, the paper's)",
        )
        which.add_argument("--npz", metavar="FILE", help="oracle of these arrays, e.g. that of SeqGAN")
        added.add_argument(
            "--scale", type=positive_number, default=1.0, metavar="X", help="factor of the weights drawn from --seed"
        )
        return added

    added = command(
        "generate", _generate, "training, validation and test data", "generate --length 20 --out runs/oracle20/text"
    )
    added.add_argument("--length", type=positive, default=20, metavar="T", help="tokens (default: %(default)s)")
    for split, size in (("train", 9984), ("valid", 1000), ("test", 10000)):
        added.add_argument(
            f"--{split}", type=positive, default=size, metavar="N", help="sequences (default: %(default)s)"
        )
    added.add_argument("--out", required=True, metavar="DIR", help="folder for the three splits and dict.txt")
    added.add_argument("--data-seed", type=seed, default=1, metavar="N", help="seed of the data (default: %(default)s)")
    added.add_argument("--force", action="store_true", help="overwrite existing files")

    added = command("nll", _nll, "oracle NLL of sequences", "nll generated.txt --length 20")
    added.add_argument("file", metavar="FILE", help="output of fairseq-generate, or token lines such as test.txt")
    added.add_argument(
        "--length", type=positive, metavar="T", help="require this many tokens (default: as the first sequence)"
    )
    added.add_argument(
        "--kind", choices=("D", "H", "T"), default="D", help="lines of fairseq-generate's output (default: %(default)s)"
    )
    added.add_argument("--json", action="store_true", help="print an object of JSON instead of a sentence")
    _add_weights(commands)
    latent_commands.add_to(commands)
    return commands


def _add_weights(commands: Commands) -> None:
    added = commands.add(
        "weights",
        _weights,
        "the arrays of an oracle of another size, for --npz",
        "weights --vocab-size 50 --out small.npz",
    )
    added.add_argument("--seed", type=seed, default=_PAPER_SEED, metavar="N", help="default: %(default)s")
    added.add_argument("--vocab-size", type=positive, default=5000, metavar="V", help="tokens (default: %(default)s)")
    added.add_argument("--scale", type=positive_number, default=1.0, metavar="X", help="factor of the weights")
    added.add_argument("--out", required=True, metavar="FILE.npz", type=Path, help="where to write them")
    added.add_argument("--force", action="store_true", help="overwrite an existing file")


if __name__ == "__main__":
    sys.exit(main())
