"""Memory of a CPU: what one update frees, the next one uses again."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # names of the settings in glibc's malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the allocator of the C library keep what is freed, as torch's allocator does on a GPU; whether it could.

    Blocks as large as the logits of a batch come from the kernel and go back to it at once, and it fills each of their
    pages with zeros again: half of an update of a small language model of 5,000 tokens (``scripts/bench``,
    lm-kept-memory). Nothing is done, and False returned, where the C library is not glibc or where the user has tuned
    it himself (``MALLOC_...``, ``GLIBC_TUNABLES``).
    """
    tuned = [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    if tuned or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
