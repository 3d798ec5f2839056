"""One step of fairseq's one optimizer that moves some parts of the model and leaves the others exactly as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fairseq.optim.amp_optimizer import AMPOptimizer


def step_parts(optimizer: Any, moves: frozenset[str], rate: float | None = None) -> bool:
    """Step the parts that move; the others have no gradient, so neither momentum nor decay acts on them.

    Args:
        optimizer: fairseq's
        moves: parts of the model, as its parameters are tagged
        rate: learning rate of this step, instead of the scheduler's

    Returns:
        False if the gradients overflowed and the step was skipped
    """
    _tag_copies(optimizer)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            part = getattr(parameter, "part", None)
            if part is None:
                raise RuntimeError(
                    "the optimizer has merged the parameters of generator and discriminator into one: use "
                    "--fp16-no-flatten-grads, and not --ddp-backend fully_sharded."
                )
            if part not in moves:
                parameter.grad = None
    with _rate(optimizer, rate):
        return step_unless_overflow(optimizer)


def step_unless_overflow(optimizer: Any) -> bool:
    """Step; False if the gradients overflowed and `--amp` therefore skipped the step.

    With `--fp16` an overflow does not come as far as this. The scale falls after an overflow and only then.
    """
    scaler = optimizer.scaler if isinstance(optimizer, AMPOptimizer) else None
    before = scaler.get_scale() if scaler else 0.0
    optimizer.step()
    return scaler is None or scaler.get_scale() >= before


def _tag_copies(optimizer: Any) -> None:
    """In half precision fairseq steps float32 copies of the parameters, which lack our tags."""
    copies = getattr(optimizer, "fp32_params", None)
    originals = getattr(optimizer, "fp16_params", None)
    if isinstance(copies, list) and originals is not None and len(copies) == len(originals):
        for copy, original in zip(copies, originals, strict=True):
            copy.part = original.part


@contextmanager
def _rate(optimizer: Any, rate: float | None) -> Iterator[None]:
    """The learning rate of all groups, for a while; None leaves it alone."""
    rates = [group["lr"] for group in optimizer.param_groups]
    if rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = rate
    try:
        yield
    finally:
        for group, former in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = former
