"""One training per folder: two would overwrite each other's checkpoints."""

import atexit
import errno
import getpass
import json
import os
import socket
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

NAME = ".training.lock"

# Of this process: folder -> file descriptor. The system releases a lock as soon as its process ends, however it ends.
_held: dict[Path, int] = {}


def claim(folder: str | os.PathLike) -> None:
    """Claim *folder* for the training that this process makes, until it ends or :func:`release_all` is called.

    Nothing happens where the folder does not exist, or where its file system knows no locks.

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
    except OSError:  # no locks here; a folder that cannot be written to is reported where a checkpoint is
        return
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
