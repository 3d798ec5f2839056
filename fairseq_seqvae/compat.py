"""What differs between the fairseq, torch, numpy and Python versions at hand, in one place.

`fairseq_problem` tells whether fairseq can be used at all; `apply_shims` repairs what can be repaired at run time.
"""

import functools
import importlib
import importlib.util
import logging
import sys
from importlib import metadata
from types import SimpleNamespace

logger = logging.getLogger(__name__)

# Every distribution that brings a package named `fairseq`, most likely one first.
FAIRSEQ_DISTRIBUTIONS = ("ve-fairseq", "fairseq", "fairseq-fixed")


@functools.cache
def fairseq_problem() -> str | None:
    """Return None if fairseq can be imported, else one sentence: what is wrong and what to do.

    The first call imports fairseq (seconds); the answer is kept, since a failed import leaves half of fairseq in
    `sys.modules` and a second try would report the wrong thing.
    """
    # fairseq says at every import that it misses tensorboardX, which nothing here uses.
    logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
    try:
        importlib.import_module("fairseq")
    except ModuleNotFoundError as error:
        if error.name == "fairseq":
            return f"fairseq is not installed: {_how_to_install()}."
        return _broken_fairseq(error)
    except Exception as error:  # fairseq runs much code at import: dataclasses, registries, compiled extensions
        return _broken_fairseq(error)
    return None


def require_fairseq() -> None:
    """Raise an ImportError that says what to do if fairseq cannot be used."""
    if problem := fairseq_problem():
        raise ImportError(problem)


def fairseq_version() -> str | None:
    """Return version and distribution of the installed fairseq, as in "0.12.3 (ve-fairseq)"; None if there is none."""
    for name in FAIRSEQ_DISTRIBUTIONS:
        if version := installed_version(name):
            return f"{version} ({name})"
    return None


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution without importing it, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def apply_shims() -> None:
    """Repair at run time, without editing a file, what this fairseq lacks on this torch. Safe to call again."""
    _keep_bf16_off_tpus()
    _unscale_amp_gradients_once()
    _let_tasks_explain_floating_point_errors()


def _keep_bf16_off_tpus() -> None:
    """`--bf16` and `--memory-efficient-bf16` make fairseq's command line assume a TPU, which dies without torch_xla.

    Answers `options.parse_args_and_arch`, which sets `tpu` along with `bf16`; with torch_xla installed it does nothing.
    """
    from fairseq import options

    original = options.parse_args_and_arch
    if getattr(original, "keeps_bf16_off_tpus", False) or importlib.util.find_spec("torch_xla") is not None:
        return

    @functools.wraps(original)
    def parse_args_and_arch(*args, **kwargs):
        parsed = original(*args, **kwargs)
        namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(namespace, "bf16", False):
            namespace.tpu = False
        return parsed

    parse_args_and_arch.keeps_bf16_off_tpus = True
    options.parse_args_and_arch = parse_args_and_arch


def _unscale_amp_gradients_once() -> None:
    """With `--amp` fairseq divides gradients by the loss scale twice, so that SGD and NAG hardly move at all.

    Its `AMPOptimizer` gives torch's scaler one object to unscale and another to step, which the scaler therefore
    unscales again. Where both are the same already, this does nothing.
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
    if seen[0] is seen[1]:
        return

    def step(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()

    AMPOptimizer.step = step


def _let_tasks_explain_floating_point_errors() -> None:
    """fairseq says "gradients are Nan/Inf" (with several processes that they are "inconsistent"), but not whose.

    A task that has a method `explain_floating_point_error(error, update_num)` gives the message.
    """
    from fairseq.trainer import Trainer

    original = Trainer.train_step
    if getattr(original, "lets_tasks_explain", False):
        return

    @functools.wraps(original)
    def train_step(self, *args, **kwargs):
        try:
            return original(self, *args, **kwargs)
        except FloatingPointError as error:
            explain = getattr(self.task, "explain_floating_point_error", None)
            # A repeated step (--amp) comes through here twice.
            if explain is None or isinstance(error.__cause__, FloatingPointError):
                raise
            raise FloatingPointError(explain(error, self.get_num_updates())) from error

    train_step.lets_tasks_explain = True
    Trainer.train_step = train_step


def is_master() -> bool:
    """Whether this process speaks for all: the first of several, or the only one."""
    from torch import distributed

    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def prepare_for_two_players(task_cfg) -> None:
    """Set what the whole run needs so that an update can move one player alone; *task_cfg* is the task's node of it.

    With `--fp16` and `--bf16` fairseq merges the gradients of all parameters into one, whose momentum and decay then
    move the resting player too: they are kept apart. Sharded parameters cannot be told apart at all. Of `--amp` on a
    CPU, which fairseq accepts and ignores, a warning tells.

    Raises:
        ValueError: with `--ddp-backend fully_sharded`
    """
    import torch

    root = task_cfg._get_root() if hasattr(task_cfg, "_get_root") else None
    if root is None or "common" not in root:
        return
    root.common.fp16_no_flatten_grads = True
    if root.common.amp and (root.common.cpu or not torch.cuda.is_available()) and is_master():
        logger.warning("--amp does nothing without a GPU: this run is in float32 (--bf16 works on a CPU)")
    if "distributed_training" in root and root.distributed_training.ddp_backend == "fully_sharded":
        raise ValueError(
            "--ddp-backend fully_sharded is not supported: it merges the parameters of generator and discriminator, "
            "which take turns; use pytorch_ddp or legacy_ddp."
        )


def _how_to_install() -> str:
    if sys.version_info < (3, 11):
        return "run `pip install 'fairseq==0.12.2' 'numpy<2'` with a pip older than 24.1"
    if sys.version_info < (3, 13):
        return "run `pip install 've-fairseq==0.12.3' 'numpy<2'`"
    return "it has no release for this Python; use Python 3.11 with `pip install 've-fairseq==0.12.3' 'numpy<2'`"


def _broken_fairseq(error: Exception) -> str:
    """Return the sentence about an installed fairseq whose import raised `error`."""
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    torch = installed_version("torch")
    numpy = installed_version("numpy")
    message = " ".join(str(error).split())
    found = f"fairseq {fairseq_version() or 'of unknown version'} cannot be imported on {python} with " + (
        f"torch {torch or '(not installed)'} and numpy {numpy or '(not installed)'} ({type(error).__name__}: {message})"
    )
    if isinstance(error, ModuleNotFoundError):
        remedy = f"install the module `{error.name}`, or everything that fairseq needs: {_how_to_install()}"
    elif "mutable default" in message:
        remedy = f"fairseq 0.12.2 needs Python 3.10 or older; for {python}, uninstall it, then {_how_to_install()}"
    elif numpy is not None and not numpy.startswith(("0.", "1.")):
        remedy = f"numpy 2 and later are not supported: {_how_to_install()}"
    else:
        remedy = (
            "known to work are ve-fairseq 0.12.3 with torch 2.13 and numpy 1.26 on Python 3.11, "
            "and fairseq 0.12.2 with numpy 1.26 or older on Python 3.10"
        )
    return f"{found}: {remedy}."
