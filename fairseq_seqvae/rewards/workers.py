"""A slow function of a user's file, called in processes of its own, each of which is given a share of the samples."""

import contextlib
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairseq_seqvae.support import callee


class CalleeError(Exception):
    """The function raised in its process.

    Attributes:
        kind: name of the type of what was raised
        place: line of the function's code, in brackets, or ""
    """

    def __init__(self, kind: str, message: str, place: str):
        super().__init__(message)
        self.kind = kind
        self.place = place


class Workers:
    """The function *name* of a file as a rule. A sample's number must not depend on the samples that come with it.

    The processes are started at the first call, and end with this object or with the process that it is in. The numbers
    are those of one call with all samples, whatever *count* is.

    Args:
        path: Python file
        name: of the function
        count: processes
    """

    def __init__(self, path: str, name: str, count: int):
        self.path = str(Path(path).resolve())
        self.name = name
        self.count = count
        self._processes: list[subprocess.Popen] = []

    def __call__(self, samples: list[str], **keywords: Any) -> list[Any]:
        """Numbers of all samples, in their order; see :class:`fairseq_seqvae.rewards.rule.RuleReward`.

        Raises:
            CalleeError: the function raised
        """
        if not self._processes:
            self._start()
        shares = [share for share in _shares(len(samples), self.count) if share.stop > share.start]
        busy = list(zip(self._processes, shares, strict=False))
        for process, share in busy:
            assert process.stdin is not None
            # References belong to the batch, everything else to a sample each; labels may be missing.
            own = {k: v if k == "references" or v is None else v[share] for k, v in keywords.items()}
            with contextlib.suppress(BrokenPipeError):  # `_answer` reports a process that has ended
                callee.write(process.stdin, ((samples[share],), own))
        answers = [self._answer(process) for process, _ in busy]  # of all, so that none is left for the next call
        numbers: list[Any] = []
        for (_, share), (is_result, answer) in zip(busy, answers, strict=True):
            if not is_result:
                raise CalleeError(*answer)
            found = answer.tolist() if hasattr(answer, "tolist") else answer
            if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != share.stop - share.start:
                return found  # to be refused as one call's result would be
            numbers += found
        return numbers

    def _answer(self, process: subprocess.Popen) -> tuple[bool, Any]:
        assert process.stdout is not None
        try:
            return callee.read(process.stdout)
        except EOFError:
            code = process.wait()
            return False, ("RuntimeError", f"its process ended with exit status {code}", "")

    def _start(self) -> None:
        command = [sys.executable, "-m", callee.__name__]
        # fairseq finds the package by its folder; it need not be installed.
        places = [str(Path(callee.__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
        for _ in range(self.count):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            weakref.finalize(self, _end, process)
            assert process.stdin is not None
            callee.write(process.stdin, (self.path, self.name))
            self._processes.append(process)


def _shares(size: int, count: int) -> list[slice]:
    """*size* samples in *count* shares, in order, whose sizes differ by at most 1."""
    bounds = [size * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]


def _end(process: subprocess.Popen) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.kill()
    process.wait()
