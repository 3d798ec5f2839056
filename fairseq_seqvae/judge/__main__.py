"""`python -m fairseq_seqvae judge`: can a discriminator that is trained afterwards tell samples from held-out data?

    python -m fairseq_seqvae judge DATA --path CHECKPOINT

The judge is a convolutional discriminator that knows nothing of the training of the model. It learns to tell training
data from samples of the prior, and stops by a share of both that it does not learn from. Its accuracy is that on
held-out data and further samples: 0.5 is blind, so the samples are as good as this judge can see. Beside it stand
figures that no judge has learned from.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fairseq_seqvae import compat
from fairseq_seqvae.support.command_line import positive, refuse_existing, report, seed, temperatures
from fairseq_seqvae.support.files import whole_file

_PROG = "python -m fairseq_seqvae judge"
# Figure -> its column, and how it is written.
COLUMNS = {
    "accuracy": ("judge", ".3f"),
    "accuracy_real": ("of real", ".3f"),
    "accuracy_fake": ("of samples", ".3f"),
    "distinct": ("distinct", ".1%"),
    "copies": ("copies", ".1%"),
    "transposed_copies": ("transposed copies", ".1%"),
    "in_one_scale": ("in one scale", ".1%"),
    "leaps": ("leaps", ".1%"),
    "interval_divergence": ("interval divergence", ".4f"),
    "bar_returns": ("a bar returns", ".1%"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    return report(_PROG, _run, _parser().parse_args(argv))


def table(found: dict[str, Any]) -> str:
    """The figures as a table of Markdown: held-out data, then one row per temperature."""
    rows = [("held-out data", found["held_out"])]
    rows += [(f"samples, temperature {row['temperature']:g}", row) for row in found["samples"]]
    columns = [name for name in COLUMNS if name in rows[-1][1]]
    lines = [["", *(COLUMNS[name][0] for name in columns)], ["---"] * (len(columns) + 1)]
    for title, row in rows:
        lines.append([title, *(format(row[name], COLUMNS[name][1]) if name in row else "" for name in columns)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _run(args: argparse.Namespace) -> None:
    compat.require_fairseq()
    from fairseq_seqvae.judge.figures import Room
    from fairseq_seqvae.judge.training import JudgePlan
    from fairseq_seqvae.measure.figures import load

    if args.json:
        refuse_existing([args.json], args.force)
        if not args.json.parent.is_dir():  # before the work
            raise FileNotFoundError(f"there is no folder {args.json.parent} to write {args.json.name} into")
    plan = JudgePlan(
        widths=args.widths, features=args.features, dropout=args.dropout, lr=args.lr, max_updates=args.max_updates
    )
    model, task = load(args.path, args.data, use_cuda=torch.cuda.is_available() and not args.cpu)
    room = Room(model, task, args.gen_subset, args.sequences, args.train_sequences, args.bar)
    found: dict[str, Any] = {"checkpoint": args.path, "subset": args.gen_subset, "prior": args.prior}
    found["held_out"] = room.held_out_row()
    found["samples"] = [room.sampled_row(tau, args.seeds, args.prior, plan) for tau in args.temperatures]
    if args.json:
        with whole_file(args.json) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(
        f"{found['held_out']['sequences']} sequences of {args.gen_subset} and as many samples per seed; "
        f"seeds {', '.join(map(str, args.seeds))}"
    )
    print(table(found))
    for row in found["samples"]:
        told = ", ".join(f"{r['accuracy']:.3f} +- {r['accuracy_standard_error']:.3f}" for r in row["runs"])
        print(f"temperature {row['temperature']:g}: judge of each seed {told} (0.5: blind)")


def _seeds(text: str) -> list[int]:
    """Different seeds, separated by commas, as an argparse type."""
    return [seed(part) for part in dict.fromkeys(text.split(","))]


def _widths(text: str) -> list[int]:
    """Different widths, separated by commas, as an argparse type."""
    return sorted({positive(part) for part in text.split(",")})


def _dropout(text: str) -> float:
    """A share from 0 to below 1, as an argparse type."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number in [0, 1)")
    return value


def _rate(text: str) -> float:
    """One positive number, as an argparse type."""
    return temperatures(text)[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA", help="folder written by fairseq-preprocess")
    parser.add_argument("--path", required=True, metavar="FILE", help="checkpoint")
    parser.add_argument("--gen-subset", default="test", metavar="SPLIT", help="held-out split (default: %(default)s)")
    parser.add_argument(
        "--sequences",
        type=positive,
        default=2000,
        metavar="N",
        help="its first N sequences, and as many samples (default: %(default)s)",
    )
    parser.add_argument(
        "--train-sequences",
        type=positive,
        default=20000,
        metavar="N",
        help="the judge learns from the first N training sequences, and as many samples (default: %(default)s)",
    )
    parser.add_argument(
        "--prior", choices=("model", "fitted"), default="model", help="prior of the samples (default: %(default)s)"
    )
    parser.add_argument(
        "--temperatures", type=temperatures, default=[1.0], metavar="TAU,...", help="of the decoder (default: 1)"
    )
    parser.add_argument(
        "--seeds", type=_seeds, default=[1], metavar="N,...", help="each has samples and a judge (default: 1)"
    )
    parser.add_argument("--bar", type=positive, default=16, metavar="N", help="melodies: steps of a bar (default: 16)")
    _add_judge(parser)
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures, those of each seed too")
    parser.add_argument("--force", action="store_true", help="overwrite that file")
    return parser


def _add_judge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--widths",
        type=_widths,
        default=[1, 2, 4, 8, 16, 32],
        metavar="N,...",
        help="judge: widths of the convolutions in tokens; those above the longest sequence are omitted "
        "(default: 1,2,4,8,16,32)",
    )
    parser.add_argument(
        "--features", type=positive, default=64, metavar="N", help="judge: features of each width (default: 64)"
    )
    parser.add_argument(
        "--dropout", type=_dropout, default=0.3, metavar="P", help="judge: before its output (default: 0.3)"
    )
    parser.add_argument("--lr", type=_rate, default=1e-3, metavar="RATE", help="judge: of Adam (default: 0.001)")
    parser.add_argument(
        "--max-updates",
        type=positive,
        default=600,
        metavar="N",
        help="judge: most updates; it stops sooner where its accuracy no longer rises (default: 600)",
    )


if __name__ == "__main__":
    sys.exit(main())
