"""Sampling from a step function, and Monte Carlo completion of prefixes.

A policy is anything that can start from a latent vector, advance by one token, and turn the features of a step into
logits. Rows are independent. All rows advance together, finished rows leave the batch, and no prefix is ever run
twice: the completions of a prefix start from the state that the policy has after it.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fairseq_seqvae.core import noise, sequences
from fairseq_seqvae.core.rollouts.policy import Completions, Policy, State, choose, drops_finished_rows


def _jobs(
    num_sentences: int, checkpoints: list[int], num_rollouts: int, chunk_rows: int
) -> Iterator[tuple[range, list[int], range]]:
    """Cut (sentences x checkpoints x rollouts) into boxes of at most *chunk_rows* rows."""
    checkpoints_each = min(len(checkpoints), chunk_rows)
    rollouts_each = min(num_rollouts, max(1, chunk_rows // checkpoints_each))
    sentences_each = max(1, chunk_rows // (checkpoints_each * rollouts_each))
    for c in range(0, len(checkpoints), checkpoints_each):
        for s in range(0, num_sentences, sentences_each):
            for r in range(0, num_rollouts, rollouts_each):
                yield (
                    range(s, min(s + sentences_each, num_sentences)),
                    checkpoints[c : c + checkpoints_each],
                    range(r, min(r + rollouts_each, num_rollouts)),
                )


@torch.no_grad()
def complete_prefixes(
    policy: Policy,
    tokens: Tensor,
    lengths: Tensor,
    z: Tensor,
    *,
    num_rollouts: int,
    stride: int,
    max_len: int,
    keys_fn: Callable[[Tensor, Tensor], Tensor],
    eos: int,
    pad: int,
    chunk_rows: int = 2048,
) -> Iterator[Completions]:
    """Complete every prefix of length stride, 2 stride, ... < length of its sequence, *num_rollouts* times.

    All prefixes and all completions of a chunk advance together in time: at step t the completions of the prefixes
    of length t join those under way, from the state that the policy reaches on the given sequence itself.

    Args:
        policy: see :class:`Policy`
        tokens: (B, T), the sequences whose prefixes are completed
        lengths: (B,)
        z: (B, Z), the latent vectors that the sequences were drawn with
        num_rollouts: K, at least 1
        stride: at least 1
        max_len: at least T
        keys_fn: (rows (R,), numbers (R,)) -> keys (R,) for the random numbers of a completion; the number tells
            apart the completions of one row
        eos, pad: token numbers
        chunk_rows: completions held in memory at a time
    """
    for name, value in (("num_rollouts", num_rollouts), ("stride", stride), ("chunk_rows", chunk_rows)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1 but is {value}.")
    if max_len < tokens.size(1):
        raise ValueError(f"`max_len` must be at least the width of `tokens` ({tokens.size(1)}) but is {max_len}.")
    host_lengths = lengths.tolist()
    checkpoints = list(range(stride, max(host_lengths, default=0), stride))
    if not checkpoints:
        return
    for sentence_range, prefix_lengths, rollout_range in _jobs(
        len(host_lengths), checkpoints, num_rollouts, chunk_rows
    ):
        # Which sentences each checkpoint is inside of is known on the host: no waiting for the device.
        joining = {i: [s for s in sentence_range if host_lengths[s] > i] for i in prefix_lengths}
        joining = {i: members for i, members in joining.items() if members}
        if joining:
            yield _complete_chunk(
                policy,
                tokens,
                z,
                sentence_range,
                joining,
                rollout_range,
                num_rollouts,
                max_len,
                keys_fn,
                eos,
                pad,
            )


def _complete_chunk(
    policy: Policy,
    tokens: Tensor,
    z: Tensor,
    sentence_range: range,
    joining: dict[int, list[int]],
    rollout_range: range,
    num_rollouts: int,
    max_len: int,
    keys_fn: Callable[[Tensor, Tensor], Tensor],
    eos: int,
    pad: int,
) -> Completions:
    device = tokens.device
    span = slice(sentence_range.start, sentence_range.stop)
    path_tokens = tokens[span]
    path_state = policy.start(z[span])
    path_prev = path_tokens.new_full((path_tokens.size(0),), eos)
    last_checkpoint = max(joining)
    rollout_numbers = torch.arange(rollout_range.start, rollout_range.stop, device=device)
    per_prefix = len(rollout_range)

    # All that the host knows is laid out before the loop over time: rows in the order in which they join.
    members = torch.tensor([s for group in joining.values() for s in group], device=device)
    prefix_lengths = torch.tensor([i for i, group in joining.items() for _ in group], device=device)
    rows = members.repeat_interleave(per_prefix)
    prefix_lengths = prefix_lengths.repeat_interleave(per_prefix)
    numbers = prefix_lengths * num_rollouts + rollout_numbers.repeat(members.numel())
    keys = keys_fn(rows, numbers)
    given = torch.arange(max_len, device=device) < prefix_lengths.unsqueeze(1)
    completed = torch.nn.functional.pad(tokens, (0, max_len - tokens.size(1)), value=pad)[rows]
    completed = completed.masked_fill(~given, pad)

    start = 0
    live = rows[:0]  # numbers of the rows under way
    state: State = ()
    prev = live
    for t in range(max_len):
        parts: list[tuple[Tensor, Tensor, State]] = []
        if live.numel():
            features, state = policy.advance(prev, state)
            parts.append((live, choose(policy, features, noise.uniform(keys[live], t)), state))
        if t <= last_checkpoint:
            path_features, path_state = policy.advance(path_prev, path_state)
            path_prev = path_tokens[:, min(t, path_tokens.size(1) - 1)]
            if t in joining:
                stop = start + len(joining[t]) * per_prefix
                new = torch.arange(start, stop, device=device)
                local = rows[start:stop:per_prefix] - sentence_range.start
                start = stop
                uniform = noise.uniform(keys[new], t).view(-1, per_prefix)
                # The distribution behind a prefix is the same for all of its completions.
                chosen = choose(policy, path_features[local], uniform).view(-1)
                repeated = local.repeat_interleave(per_prefix)
                parts.append((new, chosen, tuple(s[repeated] for s in path_state)))
        if not parts:
            if t > last_checkpoint:
                break
            continue
        if len(parts) == 1:
            live, prev, state = parts[0]
        else:
            (live_a, prev_a, state_a), (live_b, prev_b, state_b) = parts
            live, prev = torch.cat([live_a, live_b]), torch.cat([prev_a, prev_b])
            state = tuple(torch.cat(pair) for pair in zip(state_a, state_b, strict=True))
        completed[live, t] = prev
        if drops_finished_rows(device):
            unfinished = (prev != eos).nonzero().squeeze(1)
            if unfinished.numel() < live.numel():
                live, prev = live[unfinished], prev[unfinished]
                state = tuple(s[unfinished] for s in state)

    completed, lengths = sequences.cut_after_eos(completed, eos, pad)
    if drops_finished_rows(device):
        # Rows that left early are padded already; a row without EOS has the length max_len.
        completed = completed[:, : max(1, int(lengths.max()))]
        completed = torch.nn.functional.pad(completed, (0, max_len - completed.size(1)), value=pad)
    return Completions(completed, lengths, rows, prefix_lengths)
