"""Choosing tokens from logits by the inverse of the cumulative distribution.

One uniform number a choice, none a vocabulary entry: on a CPU a random number costs 20 to 40 times as much as the
exponential of a logit, so Gumbel noise or exponential races (``torch.multinomial``) would dominate everything.
"""

import math

import torch
from torch import Tensor

# Below this size one cumulative sum over the vocabulary is as fast as two levels of blocks.
_FLAT_VOCABULARY = 512


def pick(logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """Draw tokens from softmax(logits / temperature), truncated and renormalised; int64, shape of *uniform*.

    Args:
        logits: (R, V), any floating type; computed in float32
        uniform: (R,) one number in (0, 1) a row, or (R, K) for K independent draws from each row
        temperature: positive; below 1 sharpens
        top_k: keep only this many of the likeliest tokens; 0 keeps all
        top_p: keep the smallest set of likeliest tokens whose mass reaches this (Holtzman et al. 2020), after
            *top_k*; 0 or 1 keeps all

    A token of probability 0 is never drawn.

    Raises:
        ValueError: *temperature* is not positive, *top_k* is negative or *top_p* is outside [0, 1].
    """
    check_temperature(temperature)
    if top_k < 0:
        raise ValueError(f"`top_k` must not be negative but is {top_k}: give 0 to keep all tokens.")
    if not 0.0 <= top_p <= 1.0:
        raise ValueError(f"`top_p` must lie in [0, 1] but is {top_p}: give 0 to keep all tokens.")
    logits = logits.float()
    targets = uniform if uniform.dim() == 2 else uniform.unsqueeze(1)
    candidates = None
    if 0 < top_k < logits.size(1):
        logits, candidates = logits.topk(top_k, dim=1)
    if 0.0 < top_p < 1.0:
        if candidates is None:
            logits, candidates = logits.sort(dim=1, descending=True)
        probs = torch.softmax(logits / temperature, dim=1)
        mass_before = probs.cumsum(dim=1) - probs
        logits = logits.masked_fill(mass_before >= top_p, -math.inf)
    chosen = _inverse_cdf(logits, targets, temperature)
    if candidates is not None:
        chosen = candidates.gather(1, chosen)
    return chosen.view_as(uniform)


def check_temperature(temperature: float) -> None:
    """Raise a ValueError unless *temperature* is positive."""
    if not temperature > 0:
        raise ValueError(
            f"`temperature` must be positive but is {temperature}: a small one such as 0.1 is near argmax."
        )


def _inverse_cdf(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Columns (R, K) drawn from softmax(logits (R, V) / temperature) by *uniform* (R, K)."""
    num_rows, vocab_size = logits.shape
    # On a CPU 2^x costs half of e^x; one pass shifts and scales.
    scale = 1.0 / (temperature * math.log(2.0))
    weights = torch.add(logits.amax(dim=1, keepdim=True) * -scale, logits, alpha=scale).exp2_()
    if vocab_size <= _FLAT_VOCABULARY:
        return _search(weights.unsqueeze(1), uniform * weights.sum(dim=1, keepdim=True))
    # Two levels of about sqrt(V): find the block, then the entry inside it. The last block may be shorter.
    block_size = math.isqrt(vocab_size - 1) + 1
    num_full, rest = divmod(vocab_size, block_size)
    full, last = weights.split([num_full * block_size, rest], dim=1)
    block_mass = full.unflatten(1, (num_full, block_size)).sum(dim=2)
    if rest:
        block_mass = torch.cat([block_mass, last.sum(dim=1, keepdim=True)], dim=1)
    cumulative = block_mass.cumsum(dim=1)
    targets = uniform * cumulative[:, -1:]
    block = _search(block_mass.unsqueeze(1), targets, cumulative.unsqueeze(1))
    before = cumulative.gather(1, block) - block_mass.gather(1, block)
    columns = (block * block_size).unsqueeze(2) + torch.arange(block_size, device=logits.device)  # (R, K, block_size)
    inside = weights.gather(1, columns.clamp(max=vocab_size - 1).flatten(1)).view_as(columns)
    inside = inside.masked_fill_(columns >= vocab_size, 0.0)
    return block * block_size + _search(inside, targets - before)


def _search(weights: Tensor, targets: Tensor, cumulative: Tensor | None = None) -> Tensor:
    """First index of weights (R, K or 1, N) whose cumulative sum exceeds *targets* (R, K); (R, K) int64.

    Rounding can put a target at or behind the end of the sum; it then takes the heaviest entry, never one of weight 0.
    """
    if cumulative is None:
        cumulative = weights.cumsum(dim=2)
    size = weights.size(2)
    index = (cumulative <= targets.unsqueeze(2)).sum(dim=2)
    weights = weights.expand(-1, targets.size(1), -1)
    weight = weights.gather(2, index.clamp(max=size - 1).unsqueeze(2)).squeeze(2)
    valid = (index < size) & (weight > 0)
    return torch.where(valid, index, weights.argmax(dim=2))
