"""What differs between the fairseq, torch, numpy and Python versions at hand, in one place.

`fairseq_problem` tells whether fairseq can be used at all; `apply_shims` repairs what can be repaired at run time.
"""

import functools
import importlib
import importlib.util
import io
import logging
import os
import pickle
import re
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from fairseq_seqvae import checkpoints
from fairseq_seqvae.files import whole_file

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
    from fairseq import checkpoint_utils, options
    from fairseq.distributed import utils as distributed_utils
    from fairseq.file_io import PathManager
    from fairseq.models import distributed_fairseq_model
    from fairseq.optim.amp_optimizer import AMPOptimizer
    from fairseq.trainer import Trainer

    if importlib.util.find_spec("torch_xla") is None:
        _replace(options, "parse_args_and_arch", _keep_bf16_off_tpus)
    _replace(distributed_utils, "call_main", _refuse_launch_without_processes)
    _replace(distributed_utils, "_infer_torch_distributed_launch_init", _launch_by_torchrun_on_cpus)
    _replace(distributed_fairseq_model, "DistributedDataParallel", _distribute_on_cpus)
    if not _torch_loads(distributed_utils._TensorPlaceholder(0)):
        _replace(distributed_utils, "_broadcast_object_slow", _hand_over_objects)
    _replace(checkpoint_utils, "load_checkpoint_to_cpu", _load_safely)
    _replace(checkpoint_utils, "load_checkpoint", _let_finished_runs_rest)
    _replace(PathManager, "copy", _copy_whole_or_not_at_all)
    _replace(checkpoint_utils, "verify_checkpoint_directory", _explain_unusable_folder)
    _replace(checkpoint_utils, "save_checkpoint", _explain_unwritable)
    _replace(Trainer, "load_checkpoint", _explain_misfit)
    _replace(Trainer, "train_step", _let_tasks_explain_floating_point_errors)
    if _unscales_amp_gradients_twice():
        _replace(AMPOptimizer, "step", _unscale_amp_gradients_once)
    if Path(sys.argv[0]).name.startswith("fairseq-"):  # in a program of someone else's, exceptions are theirs
        _replace(sys, "excepthook", _explain_end)


def _replace(owner, name: str, make) -> None:
    """Replace the attribute *name* of *owner* by what *make* makes of it, unless that has been done before."""
    original = getattr(owner, name)
    if getattr(original, "made_by_seqvae", False):
        return
    replacement = make(original)
    replacement.made_by_seqvae = True
    setattr(owner, name, staticmethod(replacement) if isinstance(vars(owner)[name], staticmethod) else replacement)


def _keep_bf16_off_tpus(original):
    """`--bf16` and `--memory-efficient-bf16` make fairseq's command line assume a TPU, which dies without torch_xla.

    Answers `options.parse_args_and_arch`, which sets `tpu` along with `bf16`.
    """

    @functools.wraps(original)
    def parse_args_and_arch(*args, **kwargs):
        parsed = original(*args, **kwargs)
        namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(namespace, "bf16", False):
            namespace.tpu = False
        return parsed

    return parse_args_and_arch


# -- several processes --


def _gpus() -> int:
    import torch  # not above: the package's own commands need not wait for it

    return torch.cuda.device_count()


def _refuse_launch_without_processes(original):
    """fairseq starts as many processes as there are GPUs: without one, it would end at once and report success."""

    @functools.wraps(original)
    def call_main(cfg, main, **kwargs):
        launch = cfg.distributed_training
        starts_processes = launch.distributed_init_method is not None and not launch.distributed_no_spawn
        if starts_processes and not _gpus() and not cfg.common.tpu:
            raise ValueError(
                "--distributed-init-method makes fairseq start a process for each GPU, but there is none here: nothing "
                "would run. Leave it away and start the processes by torchrun, or start them yourself, each with "
                "--distributed-no-spawn and its --distributed-rank."
            )
        return original(cfg, main, **kwargs)

    return call_main


def _launch_by_torchrun_on_cpus(original):
    """fairseq divides by the number of GPUs to find the one that a process of torchrun should use."""

    @functools.wraps(original)
    def infer_torch_distributed_launch_init(cfg):
        if _gpus():
            return original(cfg)
        cfg.distributed_init_method = "env://"
        cfg.distributed_world_size = int(os.environ["WORLD_SIZE"])
        cfg.distributed_rank = int(os.environ["RANK"])
        cfg.device_id = 0
        cfg.distributed_no_spawn = True

    return infer_torch_distributed_launch_init


def _distribute_on_cpus(original):
    """fairseq names a GPU to torch's wrapper of models, also for models on the CPU, where that is an error."""

    class DistributedDataParallel(original):
        def __init__(self, module, device_ids=None, output_device=None, **kwargs):
            if not any(p.is_cuda for p in module.parameters()):
                device_ids = output_device = None
            super().__init__(module, device_ids=device_ids, output_device=output_device, **kwargs)

    return DistributedDataParallel


def refuse_lone_process(task_cfg) -> None:
    """Stop a process of torchrun that would train alone; *task_cfg* is the task's node of the whole configuration.

    Without a GPU fairseq takes 1 for the number of processes unless it is told, and each process would then write its
    own training into the one folder of checkpoints.

    Raises:
        ValueError: if torchrun has started several processes, and fairseq knows of one
    """
    root = task_cfg._get_root() if hasattr(task_cfg, "_get_root") else None
    started = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if root is None or "distributed_training" not in root or started == 1:
        return
    if root.distributed_training.distributed_world_size == 1:
        raise ValueError(
            f"{started} processes were started, but fairseq takes this one for the only one, and all would write to "
            f"the same --save-dir: add --distributed-world-size {started}."
        )


def _torch_loads(thing) -> bool:
    """Whether `torch.load` gives back what is saved, without being told to trust it."""
    import torch

    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    try:
        return torch.load(buffer) == thing
    except pickle.UnpicklingError:
        return False


def _hand_over_objects(original):
    """The first process hands a checkpoint to the others, parts of which `torch.load` now takes for foreign code.

    They come from a process of the same training, not from a file: torch's own means may transport them.
    """

    @functools.wraps(original)
    def broadcast_object_slow(obj, src_rank, group, dist_device):
        import torch

        objects = [obj]
        torch.distributed.broadcast_object_list(objects, src_rank, group, dist_device)
        return objects[0]

    return broadcast_object_slow


# -- checkpoints --


def _load_safely(original):
    """Loading a checkpoint never runs code that it contains, and one that cannot be loaded is explained."""

    @functools.wraps(original)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        with checkpoints.reading(path):
            return original(path, *args, **kwargs)

    return load_checkpoint_to_cpu


def _let_finished_runs_rest(original):
    """A run that has made its `--max-update` updates would make one more each time its command is given again."""

    @functools.wraps(original)
    def load_checkpoint(cfg, trainer, **kwargs):
        loaded = original(cfg, trainer, **kwargs)
        optimization = trainer.cfg.optimization
        if 0 < optimization.max_update <= trainer.get_num_updates():
            logger.info(
                f"the run has made {trainer.get_num_updates()} updates already: nothing is left to do until "
                f"--max-update {optimization.max_update}"
            )
            optimization.max_epoch = -1  # which the next epoch is always beyond; 0 is without limit
        return loaded

    return load_checkpoint


def _explain_misfit(original):
    """fairseq hides what the model says of a checkpoint behind "ensure that the architectures match"."""

    @functools.wraps(original)
    def load_checkpoint(self, *args, **kwargs):
        try:
            return original(self, *args, **kwargs)
        except Exception as error:
            if str(error).startswith("Cannot load model parameters") and isinstance(error.__context__, ValueError):
                raise error.__context__ from None
            raise

    return load_checkpoint


def _copy_whole_or_not_at_all(original):
    """fairseq copies a new checkpoint over the last one: if it were killed meanwhile, a stump would be left of it."""
    from fairseq.file_io import PathManager

    @functools.wraps(original)
    def copy(src_path, dst_path, overwrite=False):
        if not (overwrite and PathManager.supports_rename(dst_path)):
            return original(src_path, dst_path, overwrite=overwrite)
        with whole_file(dst_path) as partial:
            return original(src_path, str(partial), overwrite=True)

    return copy


def _explain_unusable_folder(original):
    """fairseq tries the folder before it trains."""

    @functools.wraps(original)
    def verify_checkpoint_directory(save_dir):
        try:
            return original(save_dir)
        except OSError as error:
            raise OSError(
                f"no checkpoint could be written to --save-dir {save_dir} ({error.strerror}): choose another, or make "
                "it writable."
            ) from error

    return verify_checkpoint_directory


def _explain_unwritable(original):
    """Where no checkpoint can be written, training ends at once, and says how it can go on."""

    @functools.wraps(original)
    def save_checkpoint(cfg, *args, **kwargs):
        try:
            return original(cfg, *args, **kwargs)
        except (OSError, RuntimeError) as error:  # torch's writer puts the latter in front
            cause = _system_error(error)
            if cause is None:
                raise
            # Half a file is of no use and takes the space that is missing.
            for partial in Path(cfg.save_dir).glob("*.pt.tmp"):
                with suppress(OSError):
                    partial.unlink()
            raise OSError(
                f"no checkpoint could be written to --save-dir {cfg.save_dir} ({cause.strerror or cause}): make room, "
                "or make the folder writable, and give the same command again; it goes on from the last checkpoint."
            ) from error

    return save_checkpoint


def _system_error(error: BaseException | None) -> OSError | None:
    """The OSError that an error came from, or None."""
    found = None
    while error is not None:
        found = error if isinstance(error, OSError) else found
        error = error.__context__
    return found


def _explain_end(original):
    """Ctrl-C ends in a sentence instead of a traceback; behind that of a lost worker stands what to do."""

    def excepthook(kind, error, traceback):
        if issubclass(kind, KeyboardInterrupt):
            print(
                "interrupted: checkpoints that are there are whole, and the same command of fairseq-train goes on from "
                "the last one; what was generated ends here.",
                file=sys.stderr,
            )
            return
        original(kind, error, traceback)
        if re.match(r"DataLoader worker .* (killed|exited)", str(error)):
            print(
                "a process that reads data has died, often for want of memory: use fewer --num-workers (0 needs none), "
                "and give the same command again.",
                file=sys.stderr,
            )

    return excepthook


# -- floating point --


def _unscales_amp_gradients_twice() -> bool:
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


def _unscale_amp_gradients_once(original):
    """Let torch's scaler step the optimizer that it has unscaled."""

    @functools.wraps(original)
    def step(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()

    return step


def _let_tasks_explain_floating_point_errors(original):
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
            if explain is None or isinstance(error.__cause__, FloatingPointError):
                raise
            raise FloatingPointError(explain(error, self.get_num_updates())) from error

    return train_step


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


def scores_without_targets(task_cfg) -> bool:
    """Whether `--scoring` names a scorer that looks at hypotheses alone; *task_cfg* is the task's node of them."""
    from fairseq.scoring import SCORER_REGISTRY

    root = task_cfg._get_root() if hasattr(task_cfg, "_get_root") else None
    scoring = root.get("scoring") if root is not None else None
    return getattr(SCORER_REGISTRY.get(getattr(scoring, "_name", scoring)), "ignores_targets", False)


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
