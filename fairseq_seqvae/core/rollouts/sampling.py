"""Sampling from a step function, and Monte Carlo completion of prefixes.

A policy is anything that can start from a latent vector, advance by one token, and turn the features of a step into
logits. Rows are independent. All rows advance together, finished rows leave the batch, and no prefix is ever run
twice: the completions of a prefix start from the state that the policy has after it.
"""

import torch
from torch import Tensor

from fairseq_seqvae.core import noise, sequences
from fairseq_seqvae.core.categorical import check_temperature, pick
from fairseq_seqvae.core.rollouts.policy import Policy, Samples, choose, drops_finished_rows


@torch.no_grad()
def sample(
    policy: Policy,
    z: Tensor,
    keys: Tensor,
    max_len: int,
    eos: int,
    pad: int,
    *,
    prefix: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 0.0,
    min_len: int = 0,
    with_log_probs: bool = False,
    unk: int | None = None,
    unk_penalty: float = 0.0,
) -> Samples:
    """Sample one sequence a row. Token t of row r is drawn with ``noise.uniform(keys[r], t)``.

    Args:
        policy: see :class:`Policy`
        z: (B, Z)
        keys: (B,), from :func:`noise.row_keys`
        max_len: a row ends with its EOS, which counts, or at this length
        eos, pad: token numbers
        prefix: (B, P), tokens to begin with, padded with *pad*; an EOS in it ends the row
        temperature, top_k, top_p: see :func:`sampling.pick`
        min_len: no EOS among the first *min_len* tokens, prefix aside
        with_log_probs: also return the log-probability of each token
        unk, unk_penalty: lower the log-probability of this token by this many nats
    """
    if max_len < 1:
        raise ValueError(f"`max_len` must be at least 1 but is {max_len}.")
    check_temperature(temperature)
    num_rows = z.size(0)
    if num_rows < 1:
        raise ValueError("`z` has no rows: ask for at least one sequence.")
    tokens = torch.full((num_rows, max_len), pad, dtype=torch.long, device=z.device)
    log_probs = torch.zeros(num_rows, max_len, device=z.device) if with_log_probs else None
    adjusted = min_len > 0 or unk_penalty != 0.0 or with_log_probs

    rows = torch.arange(num_rows, device=z.device)
    state = policy.start(z)
    prev = rows.new_full((num_rows,), eos)
    for t in range(max_len):
        features, state = policy.advance(prev, state)
        uniform = noise.uniform(keys, t)
        if adjusted:
            logits = policy.logits(features).float() / temperature
            if t < min_len:
                logits[:, eos] = -torch.inf
            if unk is not None:
                logits[:, unk] -= unk_penalty
            chosen = pick(logits, uniform, top_k=top_k, top_p=top_p)
        else:
            chosen = choose(policy, features, uniform, temperature=temperature, top_k=top_k, top_p=top_p)
        if prefix is not None and t < prefix.size(1):
            given = prefix[rows, t]
            chosen = torch.where(given == pad, chosen, given)
        tokens[rows, t] = chosen
        if log_probs is not None:
            log_probs[rows, t] = torch.log_softmax(logits, dim=1).gather(1, chosen.unsqueeze(1)).squeeze(1)
        prev = chosen
        if drops_finished_rows(z.device):
            live = (chosen != eos).nonzero().squeeze(1)
            if live.numel() == 0:
                break
            if live.numel() < rows.numel():
                rows, keys, prev = rows[live], keys[live], prev[live]
                state = tuple(s[live] for s in state)

    tokens, lengths = sequences.cut_after_eos(tokens[:, : t + 1], eos, pad)
    if not drops_finished_rows(z.device) or lengths.max() < tokens.size(1):
        tokens = tokens[:, : int(lengths.max())]
    if log_probs is not None:
        log_probs = log_probs[:, : tokens.size(1)].masked_fill(sequences.padding_mask(lengths, tokens.size(1)), 0.0)
    return Samples(tokens, lengths, log_probs)
