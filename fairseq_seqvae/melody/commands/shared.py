"""Options and lines of output that the commands share."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable

from fairseq_seqvae.melody import windows
from fairseq_seqvae.support.command_line import Commands, positive


def command(commands: Commands, name: str, run: Callable, summary: str, example: str) -> argparse.ArgumentParser:
    """Add a command that writes files, with `--force`."""
    added = commands.add(name, run, summary, example)
    added.add_argument("--force", action="store_true", help="overwrite existing files")
    return added


def meter(text: str) -> tuple[int, int]:
    """A meter such as 6/8, as an argparse type."""
    numerator, _, denominator = text.partition("/")
    if not numerator.isdecimal() or not 1 <= int(numerator) <= 99 or denominator not in ("1", "2", "4", "8", "16"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a meter such as 4/4 or 6/8")
    return int(numerator), int(denominator)


def add_sample_options(added: argparse.ArgumentParser) -> None:
    """Which melodies of which file."""
    added.add_argument("file", metavar="FILE", help="output of fairseq-generate, or token lines such as test.txt")
    added.add_argument("--targets", action="store_true", help="take the T- lines (the data), not the D- lines")
    added.add_argument("--limit", type=positive, metavar="N", help="only the first N melodies")
    added.add_argument("--meter", type=meter, default="4/4", help="for the bar lines (default: %(default)s)")


def add_grid_option(added: argparse.ArgumentParser) -> None:
    """Steps per quarter note."""
    added.add_argument("--steps-per-quarter", type=positive, default=4, metavar="N", help="grid (default: %(default)s)")


def counted(count: int, what: str) -> str:
    """`1 tune` or `2 tunes`; `what` is the plural."""
    return f"{count} {what[:-1] if count == 1 else what}"


def print_count(what: str, count: Counter) -> None:
    """A line with a count for each split."""
    print(f"{what}: {sum(count.values())} ({', '.join(f'{split} {count[split]}' for split in windows.SPLITS)})")


def print_reasons(what: str, reasons: Counter) -> None:
    """A line with a count for each reason, the commonest first; nothing if there is none."""
    if reasons:
        print(f"{what}: {', '.join(f'{count} {reason}' for reason, count in reasons.most_common())}")


def print_lines(sentences: Iterable[str]) -> None:
    """Sentences on standard error."""
    for sentence in sentences:
        print(sentence, file=sys.stderr)
