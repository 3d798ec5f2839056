"""`python -m fairseq_seqvae judge`: can a discriminator that is trained afterwards tell samples from held-out data?

    python -m fairseq_seqvae judge DATA --path CHECKPOINT
    python -m fairseq_seqvae judge DATA --path CHECKPOINT --samples draws.txt

The judge is a convolutional discriminator that knows nothing of the training of the model. It learns to tell training
data from samples of the prior, and stops by a share of both that it does not learn from. Its accuracy is that on
held-out data and further samples: 0.5 is blind, so the samples are as good as this judge can see. Beside it stand
figures that no judge has learned from. The second command judges the lines of a file, such as those of `select`,
instead of samples of the checkpoint, which then says no more than what the data are.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fairseq_seqvae import compat
from fairseq_seqvae.judge.arguments import add_judge, judge_plan
from fairseq_seqvae.support.command_line import positive, refuse_existing, report, seed, temperatures
from fairseq_seqvae.support.files import refuse_missing_folder, whole_file

_PROG = "python -m fairseq_seqvae judge"
_NEARLY_BLIND = 0.6  # accuracy of a judge, on what it did not learn from
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
    rows += [(_title(row), row) for row in found["samples"]]
    columns = [name for name in COLUMNS if name in rows[-1][1]]
    lines = [["", *(COLUMNS[name][0] for name in columns)], ["---"] * (len(columns) + 1)]
    for title, row in rows:
        lines.append([title, *(format(row[name], COLUMNS[name][1]) if name in row else "" for name in columns)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _title(row: dict[str, Any]) -> str:
    return f"samples, temperature {row['temperature']:g}" if "temperature" in row else f"samples of {row['file']}"


def _run(args: argparse.Namespace) -> None:
    compat.require_fairseq()
    from fairseq_seqvae.judge.figures import Room
    from fairseq_seqvae.measure.figures import load

    if args.json:
        refuse_existing([args.json], args.force)
        refuse_missing_folder(args.json)  # before the work
    if args.samples and (args.prior, args.temperatures) != (None, None):
        raise ValueError("--prior and --temperatures are for samples of the checkpoint: omit them or --samples.")
    model, task = load(args.path, args.data, use_cuda=torch.cuda.is_available() and not args.cpu)
    room = Room(model, task, args.gen_subset, args.sequences, args.train_sequences, args.bar)
    prior, plan = args.prior or "model", judge_plan(args)
    found: dict[str, Any] = {"checkpoint": args.path, "subset": args.gen_subset}
    found |= {"prior": None if args.samples else prior, "held_out": room.held_out_row()}
    if args.samples:
        found["samples"] = [room.row_of_file(args.samples, args.seeds, plan)]
    else:
        found["samples"] = [room.sampled_row(tau, args.seeds, prior, plan) for tau in args.temperatures or [1.0]]
    if args.json:
        with whole_file(args.json) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(
        f"{found['held_out']['sequences']} sequences of {args.gen_subset} and as many samples per seed; "
        f"seeds {', '.join(map(str, args.seeds))}"
    )
    print(table(found))
    for row in found["samples"]:
        told = ", ".join(
            f"{r['accuracy']:.3f} +- {r['accuracy_standard_error']:.3f} after {r['judge_updates']} updates, learned "
            f"from {r['judge_samples']} samples"
            for r in row["runs"]
        )
        print(f"{_title(row)}: judge of each seed {told} (0.5: blind)")
    if any(run["judge_valid_accuracy"] < _NEARLY_BLIND for row in found["samples"] for run in row["runs"]):
        print("A judge that is nearly blind may have stopped too soon: compare --patience 24 --max-updates 1500.")


def _seeds(text: str) -> list[int]:
    """Different seeds, separated by commas, as an argparse type."""
    return [seed(part) for part in dict.fromkeys(text.split(","))]


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
    parser.add_argument("--prior", choices=("model", "fitted"), help="prior of the samples (default: model)")
    parser.add_argument("--temperatures", type=temperatures, metavar="TAU,...", help="of the decoder (default: 1)")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="judge the lines of this file, symbols, instead")
    parser.add_argument(
        "--seeds", type=_seeds, default=[1], metavar="N,...", help="each has samples and a judge (default: 1)"
    )
    parser.add_argument("--bar", type=positive, default=16, metavar="N", help="melodies: steps of a bar (default: 16)")
    add_judge(parser)
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures, those of each seed too")
    parser.add_argument("--force", action="store_true", help="overwrite that file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
