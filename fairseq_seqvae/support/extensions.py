"""Python files of users that register something: discriminators, rewards, metrics."""

import importlib.util
import sys
from pathlib import Path


def import_module_file(path: str, flag: str) -> None:
    """Import the Python file *path*; a second time it does nothing.

    Args:
        path: a file that registers something when it is imported
        flag: the option that named it, for messages

    Raises:
        ValueError: there is no such file, or it cannot be imported
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"{flag} {path!r}: there is no such file.")
    name = f"fairseq_seqvae_user_{file.stem}_{abs(hash(str(file)))}"
    if name in sys.modules:
        return
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
