"""One training per folder: two would overwrite each other's checkpoints."""

import atexit
import errno
import getpass
import json
import logging
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

NAME = ".training.lock"

# What file systems without locks answer.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EIO)

# Of this process: folder -> file descriptor. The system releases a lock as soon as its process ends, however it ends.
_held: dict[Path, int] = {}


def claim(folder: str | os.PathLike) -> None:
    """Claim *folder* for the training that this process makes, until it ends or :func:`release_all` is called.

    Nothing happens where the folder does not exist. Where its file system knows no locks, the log says so.

    Raises:
        OSError: another process trains there; the message names it
    """
    try:
        import fcntl
    except ImportError:  # not of this system
        return
    path = Path(folder).resolve()
    if path in _held or not path.is_dir():
        return
    try:
        descriptor = _lock(path / NAME, fcntl)
    except BlockingIOError as error:
        raise OSError(
            f"another training writes into {folder} ({error}): both would overwrite each other's checkpoints. Wait for "
            "it, end it, or give another --save-dir."
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            logger.warning(
                f"{folder} cannot be locked ({error.strerror}), as on some network disks: take care that no other "
                "training writes into this --save-dir"
            )
        return  # a folder that cannot be written to is reported where a checkpoint is
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(_this_process()).encode())
    if not _held:
        atexit.register(release_all)
    _held[path] = descriptor


def _lock(file: Path, fcntl: Any) -> int:
    """Descriptor of the locked *file*; BlockingIOError, with the words about its owner, if another process has it."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
            os.close(descriptor)  # its former owner has removed it meanwhile
        except OSError as error:
            owner = _owner(descriptor)
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise BlockingIOError(owner) from error
            with suppress(OSError):
                file.unlink()  # it locks nothing
            raise


def release_all() -> None:
    """Release all folders that this process has claimed."""
    atexit.unregister(release_all)
    while _held:
        path, descriptor = _held.popitem()
        with suppress(OSError):
            (path / NAME).unlink()
        os.close(descriptor)


def _this_process() -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # one without a name
        user = str(os.getuid())
    begun = datetime.now().isoformat(" ", "minutes")
    return {"process": str(os.getpid()), "host": socket.gethostname(), "user": user, "begun": begun}


def _owner(descriptor: int) -> str:
    """Who holds the lock, as the file says."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {owner['process']} of {owner['user']} on {owner['host']}, since {owner['begun']}"
    except (ValueError, KeyError, TypeError):
        return "which one, its lock file does not say"
