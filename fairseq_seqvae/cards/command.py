"""What the commands of the cards share: their arguments, what an interruption does, what a failed cell does."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from fairseq_seqvae.runs import steps as s
from fairseq_seqvae.support.command_line import positive

C = TypeVar("C", bound=tuple)


def names(text: str) -> list[str]:
    """Different names, separated by commas, as an argparse type."""
    return list(dict.fromkeys(text.split(",")))


def numbers(text: str) -> list[int]:
    """Different whole numbers of at least 1, separated by commas, as an argparse type."""
    return [positive(part) for part in names(text)]


def new_parser(command: str, description: str | None, folder: str, example: str) -> argparse.ArgumentParser:
    """A parser of what all cards take: --seeds, --out, --smoke, --config.

    Args:
        command: its name
        folder: default of --out, in words
        example: a folder for --config
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m fairseq_seqvae {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds", type=numbers, default=[1], metavar="N,...", help="of training and sampling (default: 1)"
    )
    parser.add_argument("--out", type=Path, help=f"folder for everything that is made (default: {folder})")
    parser.add_argument("--smoke", action="store_true", help="tiny data and a few updates: see that all runs")
    parser.add_argument("--config", type=Path, metavar="DIR", help=f"folder with the recipes, such as {example}")
    return parser


def parse(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    config: Path | None,
    root: Path | None,
    folder: str,
    example: str,
) -> argparse.Namespace:
    """The arguments, with absolute folders and ``root``; exits with 2 without a folder of recipes.

    Args:
        config: default of --config
        root: where commands are run, and the parent of the default folder (default: the working directory)
        folder: default of --out, below *root*
        example: a folder for --config
    """
    # What fairseq says of reading a checkpoint is not wanted here.
    logging.disable(logging.INFO)
    # As Ctrl-C: the command that is running is stopped, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = parser.parse_args(argv)
    args.root = (root or Path.cwd()).resolve()
    args.config = args.config or config
    if args.config is None:
        parser.error(f"--config is missing: give a folder such as {example} of the repository")
    args.config = args.config.resolve()
    args.out = (args.out or args.root / (f"{folder}-smoke" if args.smoke else folder)).resolve()
    return args


def choose(parser: argparse.ArgumentParser, args: argparse.Namespace, **known: Sequence[str]) -> None:
    """Let each argument without a value be all *known* names; exits with 2 where one is unknown."""
    for argument, names_known in known.items():
        given = getattr(args, argument) or list(names_known)
        setattr(args, argument, given)
        if unknown := [name for name in given if name not in names_known]:
            flag = argument.replace("_", "-")
            parser.error(f"--{flag}: {', '.join(unknown)} is none of {', '.join(names_known)}")


def make_each(cells: Iterable[C], make: Callable[[C], None], report: Callable[[], None]) -> list[str]:
    """Make one cell after the other and report after each; the names of those that failed.

    A cell that fails does not keep the others from being made; an interruption ends all.
    """
    failures = []
    for cell in cells:
        try:
            make(cell)
        except s.Interrupted:
            raise
        except s.StepError as error:
            print(f"\nerror: {error}", file=sys.stderr)
            failures.append("-".join(map(str, cell)))
            continue
        report()
    return failures


def raise_failures(failures: Sequence[str]) -> None:
    """StepError that names the cells that failed, if any did."""
    if failures:
        raise s.StepError(f"not in the card, since a step failed (see above): {', '.join(failures)}")
