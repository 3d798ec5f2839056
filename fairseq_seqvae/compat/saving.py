"""How fairseq writes and reads checkpoints."""

import functools
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairseq_seqvae.support import checkpoints, manners
from fairseq_seqvae.support.files import whole_file

logger = logging.getLogger(__name__)

Function = Callable[..., Any]

# -- reading --


def load_safely(original: Function) -> Function:
    """Run no code that a checkpoint contains, and explain why a file cannot be loaded."""

    @functools.wraps(original)
    def load_checkpoint_to_cpu(path: str, *args: Any, **kwargs: Any) -> Any:
        with checkpoints.reading(path):
            return original(path, *args, **kwargs)

    return load_checkpoint_to_cpu


def let_finished_runs_rest(original: Function) -> Function:
    """Make no update in a run that has already made `--max-update` of them."""

    @functools.wraps(original)
    def load_checkpoint(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        loaded = original(cfg, trainer, **kwargs)
        optimization = trainer.cfg.optimization
        if 0 < optimization.max_update <= trainer.get_num_updates():
            logger.info(
                f"the run has already made {trainer.get_num_updates()} updates: nothing is left to do until "
                f"--max-update {optimization.max_update}"
            )
            optimization.max_epoch = -1  # which every epoch is beyond; 0 means no limit
        return loaded

    return load_checkpoint


def refuse_missing_file(original: Function) -> Function:
    """Refuse a `--restore-file` that does not exist, unless it is the run's own checkpoint of its first start."""
    from fairseq.file_io import PathManager

    @functools.wraps(original)
    def load_checkpoint(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        if cfg.restore_file != "checkpoint_last.pt":
            path = cfg.restore_file.replace(".pt", f"{trainer.checkpoint_suffix or ''}.pt")
            save_dir = Path(cfg.save_dir)
            begins = Path(path).absolute().parent == save_dir.absolute() and not any(save_dir.glob("checkpoint*.pt"))
            if not PathManager.exists(path) and not begins:
                raise FileNotFoundError(
                    f"--restore-file {path} does not exist: give a checkpoint, or omit the flag to continue from the "
                    f"last one in --save-dir {cfg.save_dir}, if there is one."
                )
        return original(cfg, trainer, **kwargs)

    return load_checkpoint


def refuse_partial_state(original: Function) -> Function:
    """Refuse to resume from a folder, and from a checkpoint without the state of the optimizer."""
    from fairseq.file_io import PathManager

    @functools.wraps(original)
    def load_checkpoint(self: Any, filename: str, reset_optimizer: bool = False, *args: Any, **kwargs: Any) -> Any:
        if PathManager.exists(filename) and not PathManager.isfile(filename):
            raise ValueError(f"{filename} is a folder: give a file of it, such as checkpoint_best.pt.")
        extra_state = original(self, filename, reset_optimizer, *args, **kwargs)
        made = self.get_num_updates()
        held = self._optim_history[-1].get("num_updates", made) if self._optim_history else made
        if held != made and not reset_optimizer:
            raise ValueError(
                f"{filename} holds parameters after {held} updates but no state of the optimizer "
                "(--no-save-optimizer-state, or an exported model), so training cannot continue from it: start a new "
                "run with these parameters by --finetune-from-model and another --save-dir, or by --reset-optimizer."
            )
        return extra_state

    return load_checkpoint


def begin_missing_average(original: Function) -> Function:
    """Let a moving average that a checkpoint does not hold begin as a copy of its parameters."""
    from fairseq import checkpoint_utils

    @functools.wraps(original)
    def load_checkpoint(self: Any, *args: Any, **kwargs: Any) -> Any:
        read = checkpoint_utils.load_checkpoint_to_cpu

        def read_with_average(*args: Any, **kwargs: Any) -> Any:
            state = read(*args, **kwargs)
            if "ema" not in state["extra_state"]:
                logger.info("the checkpoint holds no moving average: it begins as a copy of the parameters")
                state["extra_state"]["ema"] = dict(state["model"])
            return state

        if not self.cfg.ema.store_ema:
            return original(self, *args, **kwargs)
        checkpoint_utils.load_checkpoint_to_cpu = read_with_average
        try:
            return original(self, *args, **kwargs)
        finally:
            checkpoint_utils.load_checkpoint_to_cpu = read

    return load_checkpoint


def explain_misfit(original: Function) -> Function:
    """Let the model's own sentence about a checkpoint through."""

    @functools.wraps(original)
    def load_checkpoint(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        except Exception as error:
            if str(error).startswith("Cannot load model parameters") and isinstance(error.__context__, ValueError):
                raise error.__context__ from None
            raise

    return load_checkpoint


# -- writing --


def copy_whole_or_not_at_all(original: Function) -> Function:
    """Copy to another name first, which then takes the place of the old file."""
    from fairseq.file_io import PathManager

    @functools.wraps(original)
    def copy(src_path: str, dst_path: str, overwrite: bool = False) -> Any:
        if not (overwrite and PathManager.supports_rename(dst_path)):
            return original(src_path, dst_path, overwrite=overwrite)
        with whole_file(dst_path) as partial:
            return original(src_path, str(partial), overwrite=True)

    return copy


def explain_unusable_folder(original: Function) -> Function:
    """Name `--save-dir` where it cannot be written to, before training."""

    @functools.wraps(original)
    def verify_checkpoint_directory(save_dir: str) -> None:
        try:
            return original(save_dir)
        except OSError as error:
            raise manners.unusable_folder(save_dir, error) from error

    return verify_checkpoint_directory


def leave_no_half_checkpoint(original: Function) -> Function:
    """Where a checkpoint cannot be written, remove what was written of it, and say how to continue."""

    @functools.wraps(original)
    def save_checkpoint(cfg: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(cfg, *args, **kwargs)
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter on top
            cause = manners.system_error(error)
            if cause is None:
                raise
            for partial in Path(cfg.save_dir).glob("*.pt.tmp"):  # useless, and it takes the space that is missing
                with suppress(OSError):
                    partial.unlink()
            raise manners.unwritable_checkpoint(cfg.save_dir, cause) from error

    return save_checkpoint
