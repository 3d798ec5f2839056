"""Reading checkpoints without trusting them."""

import argparse
import contextlib
import errno
import functools
import logging
import math
import os
import pickle
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

# The first torch without a known way around its restriction to tensors and plain values: 2.5.1 and older ran code
# (CVE-2025-32434), and 2.9.1 and older could be made to corrupt their memory (CVE-2026-24747).
SAFE_SINCE = (2, 10)
# Parts of a model that only training needs, by the beginning of their parameters' names.
TRAINING_ONLY = (
    *("discriminator.", "kept_discriminator.", "rollout_decoder.", "exact_rollout.", "reference_decoder.", "critic."),
    "run_state.",
)
# torch reads the first of these since 1.13, the second, which says the opposite, since 2.6. Since then its own
# default is to load tensors and plain values alone.
WEIGHTS_ONLY = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0"}


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Whatever `torch.load` reads meanwhile, no code in it is run, and what is wrong with it is explained.

    Raises:
        ValueError: if the file at *path* contains anything but tensors and plain values, or is no checkpoint at all
    """
    before = {name: os.environ.get(name) for name in WEIGHTS_ONLY}
    os.environ.update(WEIGHTS_ONLY)
    try:
        with _accepting_options():
            yield
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a folder: give a file of it, such as checkpoint_best.pt.") from error
    except (pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        if _is_of_this_machine(error):
            raise
        if foreign := re.search(r"(?:GLOBAL|Unsupported class) (\S+)", str(error)):
            raise ValueError(
                f"{path} was not loaded, since that could run code of whoever made it: it contains "
                f"`{foreign.group(1)}`, but checkpoints of this plugin contain tensors and plain values only."
            ) from error
        raise ValueError(f"{path} is damaged, or no checkpoint: {_remedy(Path(path))}.") from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no checkpoint of fairseq ({type(error).__name__}: {error}): give a file that fairseq-train "
            "wrote."
        ) from error
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _accepting_options() -> contextlib.AbstractContextManager:
    """Accept the argparse.Namespace in which fairseq keeps some options: its loading sets attributes and runs no code.

    torch can be told so since 2.5; an older one refuses a file with a Namespace.
    """
    import torch  # not above: most commands that import this module need not wait for torch

    _warn_of_old_torch(torch.__version__)
    allow = getattr(torch.serialization, "safe_globals", lambda classes: contextlib.nullcontext())
    return allow([argparse.Namespace])


@functools.cache
def _warn_of_old_torch(version: str) -> None:
    """Warn once if this torch can be tricked by a crafted file."""
    if tuple(int(part) for part in re.findall(r"[0-9]+", version)[:2]) < SAFE_SINCE:
        logger.warning(
            f"torch {version} has known holes in how it restricts what a checkpoint may contain, which 2.10 closed: "
            "load only checkpoints whose makers you trust"
        )


def _is_of_this_machine(error: Exception) -> bool:
    """Whether what went wrong says nothing of the file: it is missing, not to be read, or there is no memory for it."""
    if isinstance(error, OSError):
        return error.errno not in (None, errno.EINVAL)  # the latter is of a place before the beginning of a short file
    return "memory" in str(error).lower()


def _remedy(damaged: Path) -> str:
    """What to do about a damaged checkpoint: the newest other one of its folder, if any, can take its place."""
    others = [file for file in damaged.parent.glob("checkpoint*.pt") if file.name != damaged.name]
    if not others:
        return "move it away to start from scratch, or give another"
    newest = max(others, key=age)
    return f"the newest other one of its folder is {newest.name}; copy that over it, then give the same command again"


def age(file: Path) -> tuple[bool, int, float, float]:
    """What puts checkpoints of one folder in order, the newest one last.

    By epoch and update of their names: their times lie if the clock has been set back.
    """
    epoch, update = -1, math.inf
    if match := re.fullmatch(r"checkpoint(?:_([0-9]+)_)?([0-9]+)\.pt", file.name):
        epoch, update = (int(match[1]), int(match[2])) if match[1] else (int(match[2]), math.inf)
    return file.name == "checkpoint_last.pt", epoch, update, file.stat().st_mtime


def is_seqvae(parameters: Container[str], prefix: str = "") -> bool:
    """Whether these are names of a SeqVAE's parameters, each with *prefix*; whatever its options, it has this one."""
    return f"{prefix}decoder.initial_state.weight" in parameters


def load(path: str | os.PathLike) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU: tensors and plain values. Parameters of 8 bits are unpacked.

    Raises:
        ValueError: it contains anything else, or is no checkpoint
    """
    import torch  # not above: most commands that import this module need not wait for torch

    from fairseq_seqvae.support import eight_bits

    with reading(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or not isinstance(state["model"], dict):
            raise TypeError("it holds no parameters of a model")
        state["model"] = eight_bits.unpack(state["model"])
    return state
