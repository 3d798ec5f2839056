"""Python files of users, which register parts of their own."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def import_module_files(paths: str | None, flag: str) -> None:
    """Import each of the files *paths*, separated by commas, if there are any; see :func:`import_module_file`."""
    if not paths:
        return
    # A comma may also be part of a file's name.
    for path in [paths] if Path(paths).is_file() else paths.split(","):
        import_module_file(path, flag)


def import_module_file(path: str, flag: str) -> ModuleType:
    """The module that is made of the Python file *path*; its code runs the first time only.

    Raises:
        ValueError: there is no such file, or its code fails; the message begins with *flag*, which named the file.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"{flag} {path!r}: there is no such file.")
    name = f"fairseq_seqvae_user_{file.stem}_{abs(hash(str(file)))}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{flag} {path!r} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{flag} {path!r} cannot be imported ({type(error).__name__}: {error}).") from error
    return module
