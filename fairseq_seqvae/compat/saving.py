"""How fairseq writes and reads checkpoints, and how a command of it ends."""

import functools
import logging
import re
import sys
from contextlib import suppress
from pathlib import Path

from fairseq_seqvae import checkpoints
from fairseq_seqvae.files import whole_file

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
