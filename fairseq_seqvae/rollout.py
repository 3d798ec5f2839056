"""Sampling from a step function, and Monte Carlo completion of prefixes.

A policy is anything that can start from a latent vector, advance by one token, and turn the features of a step into
logits. Rows are independent. All rows advance together, finished rows leave the batch, and no prefix is ever run
twice: the completions of a prefix start from the state that the policy has after it.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fairseq_seqvae import noise, sequences
from fairseq_seqvae.policy_gradient import reward_positions
from fairseq_seqvae.sampling import check_temperature, pick

State = tuple[Tensor, ...]


class Policy(Protocol):
    """What is needed of a decoder. The first input token of a sequence is always EOS, as in fairseq."""

    def start(self, z: Tensor) -> State:
        """State before the first token, for z (R, Z): tensors whose dimension 0 is rows."""

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume one token a row, (R,); features (R, D) of the next token and the new state."""

    def logits(self, features: Tensor) -> Tensor:
        """Logits (R, V) of the next token."""


class Samples(NamedTuple):
    """Sampled sequences.

    Attributes:
        tokens: (B, T), padding after the EOS
        lengths: (B,), EOS included
        log_probs: (B, T) nats at the given temperature, before truncation by top-k or top-p, 0 at padding; or None
    """

    tokens: Tensor
    lengths: Tensor
    log_probs: Tensor | None


class Completions(NamedTuple):
    """Completed prefixes.

    Attributes:
        tokens: (R, max_len), padding after the EOS
        lengths: (R,), EOS included
        rows: (R,), which sequence of the batch the prefix is of
        prefix_lengths: (R,), how many tokens were given
    """

    tokens: Tensor
    lengths: Tensor
    rows: Tensor
    prefix_lengths: Tensor


def rows_per_block(device: torch.device, vocab_size: int) -> int:
    """How many rows of logits to make at a time: few enough for the cache of a CPU, many enough to fill a GPU."""
    entries = 1 << (20 if device.type == "cpu" else 26)
    return max(64, entries // vocab_size)


def _drops_finished_rows(device: torch.device) -> bool:
    """Finding the finished rows makes the host wait for the device: on a GPU that costs more than it saves."""
    return device.type == "cpu"


def _choose(policy: Policy, features: Tensor, uniform: Tensor, **options) -> Tensor:
    """Draw the next tokens, shape of *uniform*, making the logits in blocks of rows."""
    logits = policy.logits(features[:64])
    chosen = [pick(logits, uniform[:64], **options)]
    if features.size(0) > 64:
        block = rows_per_block(features.device, logits.size(1))
        pairs = zip(features[64:].split(block), uniform[64:].split(block), strict=True)
        chosen += [pick(policy.logits(rows), numbers, **options) for rows, numbers in pairs]
    return torch.cat(chosen)


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
            chosen = _choose(policy, features, uniform, temperature=temperature, top_k=top_k, top_p=top_p)
        if prefix is not None and t < prefix.size(1):
            given = prefix[rows, t]
            chosen = torch.where(given == pad, chosen, given)
        tokens[rows, t] = chosen
        if log_probs is not None:
            log_probs[rows, t] = torch.log_softmax(logits, dim=1).gather(1, chosen.unsqueeze(1)).squeeze(1)
        prev = chosen
        if _drops_finished_rows(z.device):
            live = (chosen != eos).nonzero().squeeze(1)
            if live.numel() == 0:
                break
            if live.numel() < rows.numel():
                rows, keys, prev = rows[live], keys[live], prev[live]
                state = tuple(s[live] for s in state)

    tokens, lengths = sequences.cut_after_eos(tokens[:, : t + 1], eos, pad)
    if not _drops_finished_rows(z.device) or lengths.max() < tokens.size(1):
        tokens = tokens[:, : int(lengths.max())]
    if log_probs is not None:
        log_probs = log_probs[:, : tokens.size(1)].masked_fill(sequences.padding_mask(lengths, tokens.size(1)), 0.0)
    return Samples(tokens, lengths, log_probs)


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
            parts.append((live, _choose(policy, features, noise.uniform(keys[live], t)), state))
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
                chosen = _choose(policy, path_features[local], uniform).view(-1)
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
        if _drops_finished_rows(device):
            unfinished = (prev != eos).nonzero().squeeze(1)
            if unfinished.numel() < live.numel():
                live, prev = live[unfinished], prev[unfinished]
                state = tuple(s[unfinished] for s in state)

    completed, lengths = sequences.cut_after_eos(completed, eos, pad)
    if _drops_finished_rows(device):
        # Rows that left early are padded already; a row without EOS has the length max_len.
        completed = completed[:, : max(1, int(lengths.max()))]
        completed = torch.nn.functional.pad(completed, (0, max_len - completed.size(1)), value=pad)
    return Completions(completed, lengths, rows, prefix_lengths)


@torch.no_grad()
def prefix_values(
    policy: Policy,
    score: Callable[[Tensor, Tensor], Tensor],
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
    score_completions: Callable[[Completions], Tensor] | None = None,
) -> Tensor:
    """Value of each rewarded prefix: the mean score of its completions, (B, T), float32, 0 elsewhere.

    At the last position of a sequence stands the score of the sequence itself. Rewarded positions are those of
    :func:`policy_gradient.reward_positions`. Other arguments: :func:`complete_prefixes`.

    Args:
        score: (tokens (R, T), padding_mask (R, T)) -> (R,)
        score_completions: the same scores of completions (R,), where that is faster than *score*
    """
    values = torch.zeros(tokens.shape, device=tokens.device)
    for chunk in complete_prefixes(
        policy,
        tokens,
        lengths,
        z,
        num_rollouts=num_rollouts,
        stride=stride,
        max_len=max_len,
        keys_fn=keys_fn,
        eos=eos,
        pad=pad,
        chunk_rows=chunk_rows,
    ):
        if score_completions is None:
            scores = score(chunk.tokens, sequences.padding_mask(chunk.lengths, max_len))
        else:
            scores = score_completions(chunk)
        values.index_put_((chunk.rows, chunk.prefix_lengths - 1), scores.float() / num_rollouts, accumulate=True)
    whole = score(tokens, sequences.padding_mask(lengths, tokens.size(1))).float()
    values.scatter_(1, (lengths - 1).unsqueeze(1), whole.unsqueeze(1))
    return values.masked_fill(~reward_positions(lengths, tokens.size(1), stride), 0.0)
