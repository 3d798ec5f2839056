"""What differs between the fairseq, torch, numpy and Python versions at hand, in one place.

`fairseq_problem` tells whether fairseq can be used at all; `apply_shims` repairs what can be repaired at run time.
"""

import functools
import importlib
import importlib.util
import logging
import pickle
import re
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

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
    from fairseq.trainer import Trainer

    if importlib.util.find_spec("torch_xla") is None:
        _replace(options, "parse_args_and_arch", _keep_bf16_off_tpus)
    _replace(checkpoint_utils, "load_checkpoint_to_cpu", _explain_unreadable)
    _replace(checkpoint_utils, "verify_checkpoint_directory", _explain_unusable_folder)
    _replace(checkpoint_utils, "save_checkpoint", _explain_unwritable)
    _replace(Trainer, "load_checkpoint", _explain_misfit)
    if Path(sys.argv[0]).name.startswith("fairseq-"):  # in a program of someone else's, exceptions are theirs
        _replace(sys, "excepthook", _explain_end)


def _replace(owner, name: str, make) -> None:
    """Replace the attribute *name* of *owner* by what *make* makes of it, unless that has been done before."""
    original = getattr(owner, name)
    if getattr(original, "made_by_seqvae", False):
        return
    replacement = make(original)
    replacement.made_by_seqvae = True
    setattr(owner, name, replacement)


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


# -- what goes wrong with checkpoints, and how commands end --


def _explain_unreadable(original):
    """A file that is no checkpoint ends in whatever torch or fairseq stumble over first, such as a KeyError."""

    @functools.wraps(original)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        try:
            return original(path, *args, **kwargs)
        except (pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
            if isinstance(error, (FileNotFoundError, PermissionError)):
                raise
            raise ValueError(
                f"{path} is damaged, or no checkpoint: give another, or delete it to begin anew if it is the one that "
                "the training would go on from."
            ) from error
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is no checkpoint of fairseq ({type(error).__name__}: {error}): give a file that fairseq-train "
                "wrote."
            ) from error

    return load_checkpoint_to_cpu


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


def prepare_for_two_players(task_cfg) -> None:
    """Set what the whole run needs so that an update can move one player alone; *task_cfg* is the task's node of it.

    With `--fp16` and `--bf16` fairseq merges the gradients of all parameters into one, whose momentum and decay then
    move the resting player too: they are kept apart. Sharded parameters cannot be told apart at all.

    Raises:
        ValueError: with `--ddp-backend fully_sharded`
    """
    root = task_cfg._get_root() if hasattr(task_cfg, "_get_root") else None
    if root is None or "common" not in root:
        return
    root.common.fp16_no_flatten_grads = True
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
