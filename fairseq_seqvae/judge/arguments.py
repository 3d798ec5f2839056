"""Flags of a discriminator that a command trains: what kind, and for how long."""

import argparse
from typing import TYPE_CHECKING

from fairseq_seqvae.support.command_line import positive, temperatures

if TYPE_CHECKING:
    from fairseq_seqvae.judge.training import JudgePlan


def add_judge(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a command's *parser*."""
    parser.add_argument(
        "--widths",
        type=_widths,
        default=[1, 2, 4, 8, 16, 32],
        metavar="N,...",
        help="discriminator: widths of the convolutions in tokens; those above the longest sequence are omitted "
        "(default: 1,2,4,8,16,32)",
    )
    parser.add_argument(
        "--features", type=positive, default=64, metavar="N", help="discriminator: features of each width (default: 64)"
    )
    parser.add_argument(
        "--dropout", type=_dropout, default=0.3, metavar="P", help="discriminator: before its output (default: 0.3)"
    )
    parser.add_argument(
        "--lr", type=_rate, default=1e-3, metavar="RATE", help="discriminator: of Adam (default: 0.001)"
    )
    parser.add_argument(
        "--max-updates",
        type=positive,
        default=600,
        metavar="N",
        help="discriminator: most updates; it stops sooner where its accuracy no longer rises (default: 600)",
    )
    parser.add_argument(
        "--patience",
        type=positive,
        default=6,
        metavar="N",
        help="discriminator: times 25 updates without a better accuracy, after which it stops (default: 6)",
    )


def judge_plan(args: argparse.Namespace) -> "JudgePlan":
    """What the flags of :func:`add_judge` say."""
    from fairseq_seqvae.judge.training import JudgePlan

    return JudgePlan(
        widths=args.widths,
        features=args.features,
        dropout=args.dropout,
        lr=args.lr,
        max_updates=args.max_updates,
        patience=args.patience,
    )


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
