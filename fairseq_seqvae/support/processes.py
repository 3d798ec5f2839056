"""Which of several processes this one is, and what the others have."""

from typing import Any


def is_master() -> bool:
    """Whether this process speaks for all: the first of several, or the only one."""
    from torch import distributed  # not above: a command that starts no process need not wait for torch

    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def number_and_count() -> tuple[int, int]:
    """Number of this process, from 0, and how many there are."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def of_all(own: Any) -> list[Any]:
    """What each process has given, in their order; all of them must call this together."""
    from torch import distributed

    count = number_and_count()[1]
    if count == 1:
        return [own]
    found: list[Any] = [None] * count
    distributed.all_gather_object(found, own)
    return found
