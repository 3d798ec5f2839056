"""How fairseq scales losses and what it says of gradients that are not finite."""

import functools
from types import SimpleNamespace


def unscales_amp_gradients_twice() -> bool:
    """Whether the `AMPOptimizer` of this fairseq gives torch's scaler one object to unscale and another to step.

    The scaler then unscales the gradients of the second again, and SGD and NAG hardly move at all.
    """
    import torch
    from fairseq.optim.amp_optimizer import AMPOptimizer

    seen = []
    scaler = SimpleNamespace(unscale_=seen.append, step=seen.append, update=lambda: None)
    inner = object()
    wrapper = SimpleNamespace(optimizer=inner, clip_grad_norm=lambda *args: torch.zeros(()))
    probe = SimpleNamespace(scaler=scaler, optimizer=inner, fp32_optimizer=wrapper)
    AMPOptimizer.clip_grad_norm(probe, 0.0)
    AMPOptimizer.step(probe)
    return seen[0] is not seen[1]


def unscale_amp_gradients_once(original):
    """Let torch's scaler step the optimizer that it has unscaled."""

    @functools.wraps(original)
    def step(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()

    return step


def skip_overflows_without_a_gpu(original):
    """After an overflow, which `--fp16` skips, fairseq moves a zero to a GPU, and ends where there is none."""

    @functools.wraps(original)
    def train_step(self, *args, **kwargs):
        try:
            return original(self, *args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            if self.cuda or not isinstance(error.__context__, OverflowError):
                raise
            # The scale has fallen already; what is left is to forget the gradients.
            self.zero_grad()
            return None

    return train_step


class ExplainedError(FloatingPointError):
    """One whose message needs no more explanation."""


def let_tasks_explain_floating_point_errors(original):
    """fairseq says "gradients are Nan/Inf" (with several processes that they are "inconsistent"), but not whose.

    A task that has a method `explain_floating_point_error(error, update_num)` gives the message.
    """

    @functools.wraps(original)
    def train_step(self, *args, **kwargs):
        try:
            return original(self, *args, **kwargs)
        except FloatingPointError as error:
            explain = getattr(self.task, "explain_floating_point_error", None)
            # A repeated step (--amp) comes through here twice.
            if explain is None or isinstance(error, ExplainedError):
                raise
            raise ExplainedError(explain(error, self.get_num_updates())) from error

    return train_step
