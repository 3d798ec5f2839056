"""Which of several processes this one is."""


def is_master() -> bool:
    """Whether this process speaks for all: the first of several, or the only one."""
    from torch import distributed  # not above: a command that starts no process need not wait for torch

    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
