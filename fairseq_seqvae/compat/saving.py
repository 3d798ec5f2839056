"""How fairseq writes and reads checkpoints, and how a command of it ends."""

import functools
import logging
import re
import sys
from contextlib import suppress
from pathlib import Path

from fairseq_seqvae.support import checkpoints
from fairseq_seqvae.support.files import whole_file

logger = logging.getLogger(__name__)


def load_safely(original):
    """Loading a checkpoint never runs code that it contains, and one that cannot be loaded is explained."""

    @functools.wraps(original)
    def load_checkpoint_to_cpu(path, *args, **kwargs):
        with checkpoints.reading(path):
            return original(path, *args, **kwargs)

    return load_checkpoint_to_cpu


def let_finished_runs_rest(original):
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


def refuse_missing_file(original):
    """fairseq trains from scratch, over what is in the folder, where `--restore-file` names no file.

    A run whose command names its own checkpoint may begin so.
    """
    from fairseq.file_io import PathManager

    @functools.wraps(original)
    def load_checkpoint(cfg, trainer, **kwargs):
        if cfg.restore_file != "checkpoint_last.pt":
            path = cfg.restore_file.replace(".pt", f"{trainer.checkpoint_suffix or ''}.pt")
            save_dir = Path(cfg.save_dir)
            begins = Path(path).absolute().parent == save_dir.absolute() and not any(save_dir.glob("checkpoint*.pt"))
            if not PathManager.exists(path) and not begins:
                raise FileNotFoundError(
                    f"--restore-file {path} does not exist: give a checkpoint, or leave the flag out to go on from the "
                    f"last one in --save-dir {cfg.save_dir}, if there is one."
                )
        return original(cfg, trainer, **kwargs)

    return load_checkpoint


def refuse_partial_state(original):
    """fairseq begins anew, and says nothing, from a folder, and from a checkpoint without the optimizer's state."""
    from fairseq.file_io import PathManager

    @functools.wraps(original)
    def load_checkpoint(self, filename, reset_optimizer=False, *args, **kwargs):
        if PathManager.exists(filename) and not PathManager.isfile(filename):
            raise ValueError(f"{filename} is a folder: give a file of it, such as checkpoint_best.pt.")
        extra_state = original(self, filename, reset_optimizer, *args, **kwargs)
        made = self.get_num_updates()
        held = self._optim_history[-1].get("num_updates", made) if self._optim_history else made
        if held != made and not reset_optimizer:
            raise ValueError(
                f"{filename} holds parameters after {held} updates but no state of the optimizer "
                "(--no-save-optimizer-state, or an exported model), so that a training cannot go on from it: begin one "
                "with these parameters by --finetune-from-model and another --save-dir, or by --reset-optimizer."
            )
        return extra_state

    return load_checkpoint


def begin_missing_average(original):
    """Let a moving average that a checkpoint does not hold begin as a copy of its parameters.

    fairseq says that it does so, but has deleted them by then.
    """
    from fairseq import checkpoint_utils

    @functools.wraps(original)
    def load_checkpoint(self, *args, **kwargs):
        read = checkpoint_utils.load_checkpoint_to_cpu

        def read_with_average(*args, **kwargs):
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


def explain_misfit(original):
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


def copy_whole_or_not_at_all(original):
    """fairseq copies a new checkpoint over the last one: if it were killed meanwhile, a stump would be left of it."""
    from fairseq.file_io import PathManager

    @functools.wraps(original)
    def copy(src_path, dst_path, overwrite=False):
        if not (overwrite and PathManager.supports_rename(dst_path)):
            return original(src_path, dst_path, overwrite=overwrite)
        with whole_file(dst_path) as partial:
            return original(src_path, str(partial), overwrite=True)

    return copy


def explain_unusable_folder(original):
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


def explain_unwritable(original):
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


def explain_end(original):
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
