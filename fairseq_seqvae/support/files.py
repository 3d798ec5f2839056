"""Writing files so that nobody ever finds half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path


def refuse_missing_folder(path: Path) -> None:
    """Raise a FileNotFoundError if the folder that *path* would be written into is not there."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into: make it first")


@contextmanager
def whole_file(path: str | PathLike) -> Iterator[Path]:
    """The path of a file to write beside *path*, which takes its place at the end; after an exception, neither is left.

    What was at *path* before stays until then. The suffix is kept, for those who take the format from it.
    """
    path = Path(path)
    refuse_missing_folder(path)
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename and Path(error.filename) == partial:
            error.filename = str(path)  # the one that was asked for
        raise
    finally:
        with suppress(PermissionError):  # of a folder that takes no files, so that there is none
            partial.unlink(missing_ok=True)
