"""The commands `python -m fairseq_seqvae.oracle generate | nll`."""

import argparse
import json
import math
import sys
from collections.abc import Sequence

from fairseq_seqvae.oracle import data
from fairseq_seqvae.oracle.model import Oracle
from fairseq_seqvae.oracle.score import read_tokens, score

_PROG = "python -m fairseq_seqvae.oracle"
_PAPER_SEED = 88


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0, or 2 after one sentence about bad input on standard error."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ValueError as error:
        message = str(error)
    else:
        return 0
    print(f"{_PROG} {args.command}: error: {message}", file=sys.stderr)
    return 2


def _generate(args: argparse.Namespace) -> None:
    paths = data.data_paths(args.out)
    existing = [str(path) for path in paths if path.exists()]
    if existing and not args.force:
        raise ValueError(f"{', '.join(existing)} exists already: choose another --out or overwrite with --force")
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
        print(json.dumps({"file": args.file, "oracle": args.npz or f"seed {args.seed}", **numbers}))
    else:
        print(result)


def _oracle(args: argparse.Namespace) -> Oracle:
    return Oracle.from_npz(args.npz) if args.npz else Oracle.from_seed(args.seed)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to 2^32 - 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description="The synthetic experiment: data from a random LSTM, and the judgement of that LSTM on samples.",
        epilog=f"{_PROG} COMMAND --help shows the options of a command and an example.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, summary: str, example: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {_PROG} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        which = added.add_mutually_exclusive_group()
        which.add_argument(
            "--seed",
            type=_seed,
            default=_PAPER_SEED,
            metavar="N",
            help="oracle of 5000 tokens drawn from this seed (default: %(default)s, the paper's)",
        )
        which.add_argument("--npz", metavar="FILE", help="oracle of these arrays, e.g. that of SeqGAN")
        return added

    added = command(
        "generate", _generate, "training, validation and test data", "generate --length 20 --out runs/oracle20/text"
    )
    added.add_argument("--length", type=_positive, default=20, metavar="T", help="tokens (default: %(default)s)")
    for split, size in (("train", 9984), ("valid", 1000), ("test", 10000)):
        added.add_argument(
            f"--{split}", type=_positive, default=size, metavar="N", help="sequences (default: %(default)s)"
        )
    added.add_argument("--out", required=True, metavar="DIR", help="folder for the three splits and dict.txt")
    added.add_argument(
        "--data-seed", type=_seed, default=1, metavar="N", help="seed of the data (default: %(default)s)"
    )
    added.add_argument("--force", action="store_true", help="overwrite existing files")

    added = command("nll", _nll, "oracle NLL of sequences", "nll generated.txt --length 20")
    added.add_argument("file", metavar="FILE", help="output of fairseq-generate, or token lines such as test.txt")
    added.add_argument(
        "--length", type=_positive, metavar="T", help="require this many tokens (default: as the first sequence)"
    )
    added.add_argument(
        "--kind", choices=("D", "H", "T"), default="D", help="lines of fairseq-generate's output (default: %(default)s)"
    )
    added.add_argument("--json", action="store_true", help="print an object of JSON instead of a sentence")
    return parser


if __name__ == "__main__":
    sys.exit(main())
