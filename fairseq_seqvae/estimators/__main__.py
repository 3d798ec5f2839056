"""`python -m fairseq_seqvae estimators`: how much signal each way to estimate the policy gradient has per CPU second.

    python -m fairseq_seqvae estimators --length 20 --gen-updates 300 --disc-updates 100

Every row is the criterion `seqvae_pg` with the flags that it shows, on a model of the oracle preset with fixed
parameters. All rows estimate the gradient of one number, the mean final reward (`--pg-credit step`), so they differ in
noise and in time only. The true gradient is known from all estimates of all rows; what is one estimate's own never
counts. Seconds are CPU seconds of one thread.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from fairseq_seqvae import compat
from fairseq_seqvae.estimators.setting import Setting, Shape
from fairseq_seqvae.estimators.statistics import Judgement, Sketch, judge
from fairseq_seqvae.support.command_line import positive, refuse_existing, report, seed, whole
from fairseq_seqvae.support.files import whole_file

_PROG = "python -m fairseq_seqvae estimators"

# Name -> flags. The first one is what the others are compared with.
ROWS = {
    "K 16 stride 1 (paper)": "--value rollouts --num-rollouts 16 --reward-stride 1",
    "K 2 stride 4": "--value rollouts --num-rollouts 2 --reward-stride 4",
    "final": "--value final",
    "final, groups of 4": "--value final --pg-group-size 4 --pg-baseline group",
    "K 2 stride 4, groups of 4": (
        "--value rollouts --num-rollouts 2 --reward-stride 4 --pg-group-size 4 --pg-baseline group"
    ),
    "final, critic as baseline": "--value final --pg-baseline critic",
    "critic instead of rollouts": "--value critic --reward-stride 1",
}
# What a critic gets wrong is in its values, not in its baseline.
BIASED = frozenset({"critic instead of rollouts"})
FEWEST = 4  # estimates of each row


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    return report(_PROG, _run, _parser().parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    compat.require_fairseq()
    if args.json:
        refuse_existing([args.json], args.force)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        shape = Shape(
            args.length, args.vocab_size, args.batch_size, args.gen_updates, args.disc_updates, args.critic_updates
        )
        judged = measure(Setting(shape, args.seed), args.seconds)
    finally:
        torch.set_num_threads(threads)
    print(table(judged))
    if args.json:
        rows = {name: row._asdict() | {"signal": row.signal} for name, row in judged.items()}
        with whole_file(args.json) as partial:
            partial.write_text(json.dumps({"shape": shape._asdict(), "rows": rows}), encoding="utf-8")


def measure(setting: Setting, seconds: float) -> dict[str, Judgement]:
    """Judge all rows, for so many CPU *seconds* each."""
    parameters = sum(p.numel() for p in setting.model.decoder.parameters())
    sketch = Sketch(parameters)
    found: dict[str, torch.Tensor] = {}
    means: dict[str, float] = {}
    number = 0
    for name, flags in ROWS.items():
        estimator = setting.estimator(flags.split())
        estimator.draw(number)  # what is made once is made now
        estimates: list[torch.Tensor] = []
        spent = 0.0
        while len(estimates) < FEWEST or spent < seconds:
            number += 1
            gradient, time = estimator.draw(number)
            estimates.append(sketch(gradient))
            spent += time
        found[name], means[name] = torch.stack(estimates), spent / len(estimates)
    return judge(found, means, BIASED)


def table(judged: dict[str, Judgement]) -> str:
    """The rows as a table; the last column compares the signal per second with that of the first row."""
    first = next(iter(judged.values()))
    lines = [f"{'estimator':28} {'n':>4} {'s':>8} {'cosine':>7} {'error':>9} {'signal/s':>9} {'ratio':>7}"]
    for name, row in judged.items():
        lines.append(
            f"{name:28} {row.estimates:4} {row.seconds:8.3f} {row.cosine:7.3f} {row.error:9.2f} {row.signal:9.4f} "
            f"{row.signal / first.signal:7.2f}"
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description="How much signal each way to estimate the policy gradient has per CPU second (oracle preset).",
        epilog=f"example:\n  {_PROG} --length 64 --gen-updates 300 --disc-updates 100 --seconds 60",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sizes = (
        ("--length", 20, positive, "tokens per sequence"),
        ("--vocab-size", 5000, positive, "symbols"),
        ("--batch-size", 64, whole(2), "sentences per update"),
        ("--gen-updates", 0, whole(0), "updates of the generator by the ELBO before"),
        ("--disc-updates", 50, whole(0), "updates of the discriminator after these"),
        ("--critic-updates", 50, whole(0), "updates of the critic, in rows that have one"),
        ("--seconds", 20, positive, "CPU seconds per row, at least"),
        ("--seed", 1, seed, "of parameters and data"),
    )
    for flag, default, kind, text in sizes:
        parser.add_argument(flag, type=kind, default=default, metavar="N", help=f"{text} (default: {default})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--force", action="store_true", help="overwrite that file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
