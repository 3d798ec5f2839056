"""Sentences in place of tracebacks: what happened to a run of fairseq, and what to do next.

Only the words are here. Where a function of fairseq must be wrapped so that they are heard, `compat` wraps it.
"""

import os
import re
import select
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from fairseq_seqvae.support import checkpoints

ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


class ExplainedError(FloatingPointError):
    """An error whose message already says what happened and what to try."""


def unusable_folder(save_dir: str, error: OSError) -> OSError:
    """The error of a training that could not begin to write into *save_dir*."""
    return OSError(
        f"no checkpoint could be written to --save-dir {save_dir} ({error.strerror}): choose another, or make it "
        "writable."
    )


def unwritable_checkpoint(save_dir: str, error: OSError) -> OSError:
    """The error of a training that can no longer write into *save_dir*, with what it can continue from."""
    files = sorted(Path(save_dir).glob("checkpoint*.pt"), key=checkpoints.age)
    if any(file.name == "checkpoint_last.pt" for file in files):
        rest = "then give the same command again; it continues from the last checkpoint."
    elif files:
        rest = (
            f"copy {files[-1].name}, the newest checkpoint there, to checkpoint_last.pt, which does not exist yet, "
            "then give the same command again; it continues from that."
        )
    else:
        rest = "then give the same command again; it starts from scratch, since there is no checkpoint yet."
    return OSError(
        f"no checkpoint could be written to --save-dir {save_dir} ({error.strerror or error}): free some space, or "
        f"make the folder writable, {rest}"
    )


def repeated_batches(again: int, seen: int, before: int, now: int) -> str:
    """The sentence about a run that continues within an epoch with another number of processes."""
    return (
        f"{again} of the {seen} batches that this epoch has trained on come again, since {seen} cannot be shared out "
        f"among {now} processes: to continue exactly, use {before} until the epoch ends"
    )


def system_error(error: BaseException | None) -> OSError | None:
    """The first OSError behind *error*, or None."""
    found = None
    while error is not None:
        found = error if isinstance(error, OSError) else found
        error = error.__context__
    return found


def let_go_of_output() -> bool:
    """Whether nobody reads standard output any more; if so, what is left of it goes nowhere."""
    output = sys.__stdout__
    if output is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(output.fileno(), select.POLLOUT)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())  # Python flushes it once more at its end
    return True


def explain_ends_of(programs: str) -> None:
    """Explain how a command ends, if its name begins with *programs*: in other programs, exceptions are theirs.

    Calling this again changes nothing.
    """
    if Path(sys.argv[0]).name.startswith(programs) and not hasattr(sys.excepthook, "explains_ends"):
        sys.excepthook = explain_end(sys.excepthook)


def explain_end(original: ExceptHook) -> ExceptHook:
    """What ends a command, in a sentence instead of a traceback, or after it.

    Ctrl-C prints a sentence; a reader that has closed its end of a pipe, as ``head`` does, nothing; a lost worker's
    traceback is followed by what to do.
    """

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print(
                "interrupted: existing checkpoints are intact, and the same fairseq-train command continues from the "
                "last one; generation starts over.",
                file=sys.stderr,
            )
            return
        if issubclass(kind, BrokenPipeError) and let_go_of_output():
            return
        original(kind, error, traceback)
        if re.match(r"DataLoader worker .* (killed|exited)", str(error)):
            print(
                "a process that reads data died, often for lack of memory: use fewer --num-workers (0 needs none), "
                "then give the same command again.",
                file=sys.stderr,
            )

    excepthook.explains_ends = True  # type: ignore[attr-defined]
    return excepthook
