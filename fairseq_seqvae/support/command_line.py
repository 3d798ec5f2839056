"""What the package's own command lines share: commands with an example each, checks of arguments."""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fairseq_seqvae.support.manners import let_go_of_output


def whole(least: int) -> Callable[[str], int]:
    """An argparse type: a whole number of at least *least*, which is not negative."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least {least}")
        return int(text)

    return parse


def positive(text: str) -> int:
    """A whole number of at least 1, as an argparse type."""
    return whole(1)(text)


def seed(text: str) -> int:
    """A whole number from 0 to 2^32 - 1, as an argparse type."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to 2^32 - 1")
    return int(text)


def positive_number(text: str) -> float:
    """A finite number above 0, as an argparse type."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return number


def share(text: str) -> float:
    """A number above 0 and at most 1, as an argparse type."""
    value = positive_number(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0 and at most 1")
    return value


def temperatures(text: str) -> list[float]:
    """Positive numbers, separated by commas and each given once, as an argparse type."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value < float("inf") for value in values) or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"{text!r} must be different positive numbers, as in 1,0.9,0.8")
    return values


def refuse_existing(paths: Iterable[Path], force: bool) -> None:
    """Raise a ValueError that names files which would be overwritten, unless *force*."""
    existing = [str(path) for path in paths if path.exists()]
    if existing and not force:
        raise ValueError(f"{', '.join(existing[:3])} exists already: choose another name or overwrite with --force")


def report(program: str, run: Callable, args: argparse.Namespace) -> int:
    """Call *run* with *args*; 0, or 2 after one sentence about bad input on standard error, 130 after Ctrl-C."""
    try:
        run(args)
    except KeyboardInterrupt:
        print(f"{program}: interrupted: existing files are intact", file=sys.stderr)
        return 130
    except BrokenPipeError:  # head and the like have read enough
        let_go_of_output()
        return 0
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except (ValueError, ImportError) as error:
        message = str(error)
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error).lower():  # torch has no class of its own for want of it
            raise
        message = "this needs more memory than there is: ask for less, or for shorter sequences"
    else:
        return 0
    print(f"{program}: error: {message}", file=sys.stderr)
    return 2


class Commands:
    """A parser with commands, ``python -m program COMMAND``."""

    def __init__(self, program: str, description: str):
        self.program = program
        self.parser = argparse.ArgumentParser(
            prog=program,
            description=description,
            epilog=f"{program} COMMAND --help shows the options of a command and an example.",
        )
        self._commands = self.parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(self, name: str, run: Callable, summary: str, example: str) -> argparse.ArgumentParser:
        """Add a command; ``args.run`` will be *run*."""
        added = self._commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:\n  {self.program} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    def run(self, argv: Sequence[str] | None = None) -> int:
        """Run one command; its exit status, see :func:`report`."""
        args = self.parser.parse_args(argv)
        return report(f"{self.program} {args.command}", args.run, args)
