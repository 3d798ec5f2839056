"""Which fairseq is installed, whether it can be used, and what to say if not."""

import functools
import importlib
import logging
import sys
from importlib import metadata

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
