"""What depends on the number of the update: the weight of the KL term, and whose turn it is."""

KL_ANNEALS = ("constant", "linear", "cyclical")


def kl_weight(
    update: int,
    weight: float,
    anneal: str = "constant",
    anneal_updates: int = 0,
    cycles: int = 4,
    ramp: float = 0.5,
) -> float:
    """Weight of the KL term at *update* (counted from 0).

    Args:
        weight: the final weight
        anneal: ``constant``; ``linear``: rises from 0 within *anneal_updates* (Bowman et al. 2016); ``cyclical``:
            within *anneal_updates*, *cycles* times a rise from 0 over the first *ramp* share of the cycle, then
            flat (Fu et al. 2019); *weight* after that
    """
    if anneal not in KL_ANNEALS:
        raise ValueError(f"`anneal` must be one of {', '.join(KL_ANNEALS)} but is {anneal!r}.")
    if anneal == "constant" or update >= anneal_updates:
        return weight
    if anneal == "linear":
        return weight * update / anneal_updates
    if cycles < 1:
        raise ValueError(f"`cycles` must be at least 1 but is {cycles}.")
    if not 0 < ramp <= 1:
        raise ValueError(f"`ramp` must lie in (0, 1] but is {ramp}.")
    position = update * cycles % anneal_updates / anneal_updates
    return weight * min(1.0, position / ramp)
