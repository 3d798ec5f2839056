"""One thread that has the model; melodies that several requests want decoded at once go through it as one batch."""

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.melody.studio.model import StudioModel
from fairseq_seqvae.melody.studio.wire import BusyError
from fairseq_seqvae.melody.tokens import Note

MOST_ROWS = 256  # of one batch
PATIENCE = 60.0  # seconds until a request gives up


class _Decode(NamedTuple):
    z: Tensor  # (B, Z)
    result: Future


class _Call(NamedTuple):
    function: Callable[[StudioModel], Any]
    result: Future


class Worker:
    """Opens a model in the background, then does what is asked of it, in the order of asking.

    Args:
        open_model: what gives the model; what it raises, every request raises
        patience: seconds until a request gives up
    """

    def __init__(self, open_model: Callable[[], StudioModel], patience: float = PATIENCE):
        self._open = open_model
        self._patience = patience
        self._jobs: queue.SimpleQueue[_Decode | _Call] = queue.SimpleQueue()
        self._ahead: deque[_Decode | _Call] = deque()  # taken from the queue, not yet done
        self.model: Future[StudioModel] = Future()
        threading.Thread(target=self._work, name="studio model", daemon=True).start()

    def call(self, function: Callable[[StudioModel], Any]) -> Any:
        """What *function* gives for the model."""
        return self._wait(_Call(function, Future()))

    def decode(self, z: Tensor) -> list[list[Note]]:
        """The likeliest melody of each z (B, Z)."""
        return self._wait(_Decode(z, Future()))

    def _wait(self, job: _Decode | _Call) -> Any:
        self._jobs.put(job)
        try:
            return job.result.result(self._patience)
        except FutureTimeoutError:
            job.result.cancel()
            raise BusyError(f"the model did not answer within {self._patience:g} seconds: try again") from None

    def _work(self) -> None:
        try:
            model = self._open()
        except Exception as error:  # whatever it is, those who wait must hear of it
            self.model.set_exception(error)
            while True:
                self._next().result.set_exception(error)
        self.model.set_result(model)
        while True:
            job = self._next()
            if isinstance(job, _Call):
                _finish([job], partial(_call, model, job))
            else:
                jobs = self._with_others(job)
                _finish(jobs, partial(_decode_together, model, jobs))

    def _next(self) -> _Decode | _Call:
        return self._ahead.popleft() if self._ahead else self._jobs.get()

    def _with_others(self, first: _Decode) -> list[_Decode]:
        """*first*, and what else is to be decoded next, up to `MOST_ROWS`."""
        jobs, rows = [first], len(first.z)
        while True:
            try:
                job = self._ahead.popleft() if self._ahead else self._jobs.get_nowait()
            except queue.Empty:
                return jobs
            if not isinstance(job, _Decode) or rows + len(job.z) > MOST_ROWS:
                self._ahead.appendleft(job)
                return jobs
            jobs.append(job)
            rows += len(job.z)


def _finish(jobs: Any, run: Callable[[], list[Any]]) -> None:
    """Give each of the jobs its part of what *run* gives, or its error; those that nobody waits for are left out."""
    waiting = [job.result.set_running_or_notify_cancel() for job in jobs]
    try:
        results = run()
    except Exception as error:  # of the one who asked
        results = [error] * len(jobs)
    for job, waited_for, result in zip(jobs, waiting, results, strict=True):
        if not waited_for:
            continue
        if isinstance(result, Exception):
            job.result.set_exception(result)
        else:
            job.result.set_result(result)


def _call(model: StudioModel, job: _Call) -> list[Any]:
    return [job.function(model)]


def _decode_together(model: StudioModel, jobs: list[_Decode]) -> list[Any]:
    melodies = iter(model.decode(torch.cat([job.z for job in jobs])))
    return [[next(melodies) for _ in job.z] for job in jobs]
