"""Choosing tokens from logits by the inverse of the cumulative distribution.

One uniform number per choice, none per vocabulary entry: on a CPU a random number costs 20 to 40 times as much as the
exponential of a logit, so Gumbel noise or exponential races (``torch.multinomial``) would dominate everything.
"""

import math
from collections.abc import Callable
from typing import Any

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


def pick_in_blocks(logits_of: Callable[[Tensor], Tensor], features: Tensor, uniform: Tensor, **options: Any) -> Tensor:
    """Draw tokens, int64, shape of *uniform*, from logits that are made for a block of rows at a time.

    Args:
        logits_of: (R', D) -> (R', V), row by row
        features: (R, D)
        uniform: (R,), or (R, K) for K draws per row
        options: ``temperature``, ``top_k``, ``top_p``, see :func:`pick`
    """
    chosen, start, block = [], 0, 64
    while start < len(features):
        rows = slice(start, start + block)
        logits = logits_of(features[rows])
        chosen.append(pick(logits, uniform[rows], **options))
        start, block = start + block, rows_per_block(features.device, logits.size(1))
    return torch.cat(chosen)


def rows_per_block(device: torch.device, vocab_size: int) -> int:
    """How many rows of logits to make at a time: few enough for the cache of a CPU, many enough to fill a GPU."""
    entries = 1 << (20 if device.type == "cpu" else 26)
    return max(64, entries // vocab_size)


def check_temperature(temperature: float) -> None:
    """Raise a ValueError unless *temperature* is positive."""
    if not temperature > 0:
        raise ValueError(
            f"`temperature` must be positive but is {temperature}: a small one such as 0.1 is near argmax."
        )


def _inverse_cdf(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Columns (R, K) drawn from softmax(logits (R, V) / temperature) by *uniform* (R, K)."""
    num_rows, vocab_size = logits.shape
    # Two levels of about sqrt(V): find the block, then the entry inside it. Columns of weight 0 fill the last block.
    num_blocks = 1 if vocab_size <= _FLAT_VOCABULARY else math.isqrt(vocab_size)
    block_size = (vocab_size - 1) // num_blocks + 1
    filled = logits.new_empty(num_rows, num_blocks * block_size)
    filled[:, vocab_size:] = 0.0
    weights = filled[:, :vocab_size]
    # On a CPU 2^x costs half of e^x; one pass shifts and scales.
    scale = 1.0 / (temperature * math.log(2.0))
    torch.add(logits.amax(dim=1, keepdim=True) * -scale, logits, alpha=scale, out=weights).exp2_()
    blocks = filled.view(num_rows, num_blocks, block_size)
    if num_blocks == 1:
        return _search(filled, uniform * filled.sum(dim=1, keepdim=True), filled.cumsum(dim=1))
    mass = blocks.sum(dim=2)
    cumulative = mass.cumsum(dim=1)
    targets = uniform * cumulative[:, -1:]
    block = _search(mass, targets, cumulative)
    before = (cumulative - mass).gather(1, block)
    first_block = torch.arange(0, num_rows * num_blocks, num_blocks, device=logits.device).unsqueeze(1)
    inside = blocks.flatten(0, 1).index_select(0, (first_block + block).flatten())  # (R * K, block_size)
    entry = _search(inside, (targets - before).view(-1, 1), inside.cumsum(dim=1))
    return block * block_size + entry.view_as(block)


def _search(weights: Tensor, targets: Tensor, cumulative: Tensor) -> Tensor:
    """First index of *weights* (R, N) whose *cumulative* sum (R, N) exceeds *targets* (R, K); (R, K) int64.

    Rounding can put a target at or behind the end of the sum, or before its begin where weights are 0; it then takes
    the heaviest entry, never one of weight 0.
    """
    index = torch.searchsorted(cumulative, targets, right=True)
    size = weights.size(1)
    missed = (index == size) | ~(weights.gather(1, index.clamp(max=size - 1)) > 0)
    # On a GPU the question alone would make the host wait.
    if missed.device.type != "cpu" or bool(missed.any()):
        index = torch.where(missed, weights.argmax(dim=1, keepdim=True), index)
    return index
