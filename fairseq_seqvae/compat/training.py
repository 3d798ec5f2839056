"""What fairseq does in an update: batches, scaling of losses, gradients that are not finite, metrics."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch

from fairseq_seqvae.support.manners import ExplainedError

Function = Callable[..., Any]

# -- batches --


def drops_last_batch() -> bool:
    """Whether nine sentences in batches of eight are eight."""
    import numpy as np
    from fairseq.data import data_utils

    batches = data_utils.batch_by_size(
        np.arange(9), num_tokens_fn=lambda index: 1, max_sentences=8, required_batch_size_multiple=8
    )
    return sum(map(len, batches)) < 9


def keep_last_batch(original: Function) -> Function:
    """Append the sentences that are in no batch; they are the last ones, since batches are cut in order."""

    import numpy as np

    @functools.wraps(original)
    def batch_by_size(
        indices: Any,
        num_tokens_fn: Function,
        num_tokens_vec: Any = None,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
        fixed_shapes: Any = None,
    ) -> Any:
        limits = num_tokens_fn, num_tokens_vec, max_tokens, max_sentences, required_batch_size_multiple, fixed_shapes
        if fixed_shapes is not None:  # such batches are in another order, and complete
            return original(indices, *limits)
        indices = np.asarray(indices if hasattr(indices, "__len__") else list(indices), dtype=np.int64)
        if len(indices) == 0:
            return []
        batches = list(original(indices, *limits))
        kept = sum(map(len, batches))
        return batches if kept == len(indices) else [*batches, indices[kept:]]

    return batch_by_size


def omit_empty_batches(original: Function) -> Function:
    """Omit the empty batches of an update, unless all are empty: the reduction over processes needs one.

    Batches are shared out one by one, so in the last update of an epoch a process may get fewer than `--update-freq`;
    fairseq fills the rest with empty ones.
    """

    @functools.wraps(original)
    def train_step(self: Any, samples: list[Any], *args: Any, **kwargs: Any) -> Any:
        # Sharded parameters are gathered in each forward, by all processes together.
        if not (self.is_fsdp or self.tpu):
            samples = [sample for sample in samples if sample is not None and len(sample)] or samples[:1]
        return original(self, samples, *args, **kwargs)

    return train_step


# -- scaling, and gradients that are not finite --


def unscales_amp_gradients_twice() -> bool:
    """Whether `AMPOptimizer` gives torch's scaler one object to unscale and another to step."""
    import torch
    from fairseq.optim.amp_optimizer import AMPOptimizer

    seen: list[object] = []
    scaler = SimpleNamespace(unscale_=seen.append, step=seen.append, update=lambda: None)
    inner = object()
    wrapper = SimpleNamespace(optimizer=inner, clip_grad_norm=lambda *args: torch.zeros(()))
    probe: Any = SimpleNamespace(scaler=scaler, optimizer=inner, fp32_optimizer=wrapper)
    AMPOptimizer.clip_grad_norm(probe, 0.0)
    AMPOptimizer.step(probe)
    return seen[0] is not seen[1]


def unscale_amp_gradients_once(original: Function) -> Function:
    """Let torch's scaler step the optimizer that it has unscaled."""

    @functools.wraps(original)
    def step(self: Any) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()

    return step


def skip_overflows_without_a_gpu(original: Function) -> Function:
    """After an overflow that `--fp16` skips, forget the gradients without moving anything to a GPU."""

    @functools.wraps(original)
    def train_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            if self.cuda or not isinstance(error.__context__, OverflowError):
                raise
            self.zero_grad()  # the scale has already fallen
            return None

    return train_step


def clip_gradients_where_they_are(original: Function) -> Function:
    """Clip the gradients of a run with `--cpu` on the CPU, also where the machine has a GPU."""

    @functools.wraps(original)
    def clip_grad_norm_(params: Any, max_norm: float, aggregate_norm_fn: Any = None) -> torch.Tensor:
        params = [params] if isinstance(params, torch.Tensor) else list(params)
        gradients = [p.grad for p in params if p is not None and p.grad is not None]
        if not gradients or gradients[0].device.type != "cpu":
            return original(params, max_norm, aggregate_norm_fn)
        norm = original(params, 0, aggregate_norm_fn).cpu()  # 0: only measured
        if max_norm > 0:
            coefficient = (float(max_norm) / (norm + 1e-6)).clamp(max=1)
            torch._foreach_mul_(gradients, coefficient)
        return norm

    return clip_grad_norm_


def let_tasks_explain_floating_point_errors(original: Function) -> Function:
    """Let a task with a method `explain_floating_point_error(error, update_num)` give the message."""

    @functools.wraps(original)
    def train_step(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except FloatingPointError as error:
            explain = getattr(self.task, "explain_floating_point_error", None)
            # A repeated step (--amp) comes through here twice.
            if explain is None or isinstance(error, ExplainedError):
                raise
            raise ExplainedError(explain(error, self.get_num_updates())) from error

    return train_step


# -- metrics --


def remembers_ended_metrics() -> bool:
    """Whether a nameless `metrics.aggregate()` leaves its name behind."""
    from fairseq.logging import metrics

    counts: dict[str, int] = getattr(metrics, "_active_aggregators_cnt", {})
    before = set(counts)
    with metrics.aggregate():
        pass
    return set(counts) != before


def forget_ended_metrics(original: Function) -> Function:
    """Remove the names of aggregations that have ended."""
    from fairseq.logging import metrics

    @functools.wraps(original)
    @contextlib.contextmanager
    def aggregate(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with original(*args, **kwargs) as logged:
            yield logged
        counts = metrics._active_aggregators_cnt
        for name in [name for name, count in counts.items() if count == 0]:
            del counts[name]

    return aggregate


def omit_missing_numbers(original: Function) -> Function:
    """Omit the numbers that no update of an interval had, such as the loss of turns in which the generator rests."""

    @functools.wraps(original)
    def get_smoothed_values(name: str) -> Any:
        values = original(name)
        for key in [key for key, value in values.items() if value is None]:
            del values[key]
        return values

    return get_smoothed_values
