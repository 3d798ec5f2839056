"""Choosing tokens from logits by the inverse of the cumulative distribution.

One uniform number a choice, none a vocabulary entry: on a CPU a random number costs 20 to 40 times as much as the
exponential of a logit, so Gumbel noise or exponential races (``torch.multinomial``) would dominate everything.
"""

import math

import torch
import torch.nn.functional as F
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
    if not temperature > 0:
        raise ValueError(
            f"`temperature` must be positive but is {temperature}: a small one such as 0.1 is near argmax."
        )
    if top_k < 0:
        raise ValueError(f"`top_k` must not be negative but is {top_k}: give 0 to keep all tokens.")
    if not 0.0 <= top_p <= 1.0:
        raise ValueError(f"`top_p` must lie in [0, 1] but is {top_p}: give 0 to keep all tokens.")
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    targets = uniform if uniform.dim() == 2 else uniform.unsqueeze(1)
    candidates = None
    if 0 < top_k < logits.size(1):
        logits, candidates = logits.topk(top_k, dim=1)
    if 0.0 < top_p < 1.0:
        if candidates is None:
            logits, candidates = logits.sort(dim=1, descending=True)
        probs = torch.softmax(logits, dim=1)
        mass_before = probs.cumsum(dim=1) - probs
        logits = logits.masked_fill(mass_before >= top_p, -math.inf)
    chosen = _inverse_cdf(logits, targets)
    if candidates is not None:
        chosen = candidates.gather(1, chosen)
    return chosen.view_as(uniform)


def _inverse_cdf(logits: Tensor, uniform: Tensor) -> Tensor:
    """Columns (R, K) drawn from softmax(logits (R, V)) by *uniform* (R, K)."""
    num_rows, vocab_size = logits.shape
    weights = (logits - logits.amax(dim=1, keepdim=True)).exp_()
    if vocab_size <= _FLAT_VOCABULARY:
        return _search(weights.unsqueeze(1), uniform * weights.sum(dim=1, keepdim=True))
    # Two levels of about sqrt(V): find the block, then the entry inside it.
    block_size = math.isqrt(vocab_size - 1) + 1
    num_blocks = -(-vocab_size // block_size)
    blocks = F.pad(weights, (0, num_blocks * block_size - vocab_size)).view(num_rows, num_blocks, block_size)
    block_mass = blocks.sum(dim=2)
    cumulative = block_mass.cumsum(dim=1)
    targets = uniform * cumulative[:, -1:]
    block = _search(block_mass.unsqueeze(1), targets, cumulative.unsqueeze(1))
    before = cumulative.gather(1, block) - block_mass.gather(1, block)
    inside = blocks.gather(1, block.unsqueeze(2).expand(-1, -1, block_size))
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
