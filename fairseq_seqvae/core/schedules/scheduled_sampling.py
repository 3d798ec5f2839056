"""How many of the decoder's inputs are its own samples, by the number of the update."""

import math

SAMPLING_SCHEDULES = ("linear", "inverse-sigmoid", "constant")


def sampling_share(update: int, share: float, schedule: str, updates: int) -> float:
    """Share of the inputs that are sampled in *update* (counted from 0); rises to *share* (Bengio et al. 2015).

    Args:
        update: number of the update
        share: the final share
        schedule: ``linear``: from 0 to *share* within *updates*; ``inverse-sigmoid``: the share of true inputs is
            k / (k + exp(update / k)), with the k that makes it a half after half of *updates*; ``constant``
        updates: at least 2, except where constant

    Raises:
        ValueError: unknown schedule
    """
    if schedule not in SAMPLING_SCHEDULES:
        raise ValueError(f"`schedule` must be one of {', '.join(SAMPLING_SCHEDULES)} but is {schedule!r}.")
    if schedule == "constant":
        return share
    if schedule == "linear":
        return share * min(1.0, update / updates)
    k = _decay(updates / 2)
    # exp(-x) instead of exp(x), which overflows.
    return share / (1.0 + k * math.exp(-update / k))


def _decay(half: float) -> float:
    """The k > 1 for which k / (k + exp(half / k)) is a half, that is k log k = half."""
    log_k = math.log1p(half)
    for _ in range(50):  # Newton's method for x + log x = log(half) with x = log k
        log_k = max(log_k - (log_k + math.log(log_k) - math.log(half)) / (1 + 1 / log_k), 1e-9)
    return math.exp(log_k)
