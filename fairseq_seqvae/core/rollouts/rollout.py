"""Rollouts: sampling from a policy, completing prefixes, and the values of prefixes.

All rows advance together, finished rows leave the batch, and no prefix is ever run twice: the completions of a prefix
start from the state that the policy has after it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.categorical import pick, pick_in_blocks
from fairseq_seqvae.core.noise import Draws, Stream, uniform
from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rollouts.policy import (
    Completions,
    Policy,
    RolloutPlan,
    Samples,
    SamplingOptions,
    Shared,
    State,
    Trajectory,
)

# Kinds of devices on which finished rows leave the batch. To find them, the host waits: on a GPU that costs more than
# it saves.
DROP_FINISHED_ON = ("cpu",)

PLAIN = SamplingOptions()

# Ways to value prefixes: :func:`prefix_values`, :func:`final_values`, or the latter after a critic's predictions.
VALUES = ("rollouts", "final", "critic")


def select_rows(state: State, index: Tensor) -> State:
    """The state of the rows *index* (R,)."""
    return tuple(part if isinstance(part, Shared) else part[index] for part in state)


def join_rows(first: State, second: State) -> State:
    """The rows of both states, which have come from one call of :meth:`Policy.start`."""
    pairs = zip(first, second, strict=True)
    return tuple(a if isinstance(a, Shared) else torch.cat([a, b]) for a, b in pairs)


@torch.no_grad()
def sample(
    policy: Policy,
    z: Tensor,
    keys: Tensor,
    max_len: int,
    options: SamplingOptions = PLAIN,
    prefix: Tensor | None = None,
) -> Samples:
    """Sample one sequence per row. Token t of row r is drawn with ``noise.uniform(keys[r], t)``.

    Args:
        policy: see :class:`Policy`
        z: (B, Z)
        keys: (B,), from :func:`noise.row_keys`
        max_len: a row ends with its EOS, which counts, or at this length
        options: see :class:`SamplingOptions`
        prefix: (B, P), tokens to begin with, padded; an EOS in it ends the row
    """
    if max_len < 1:
        raise ValueError(f"`max_len` must be at least 1 but is {max_len}.")
    num_rows = z.size(0)
    if num_rows < 1:
        raise ValueError("`z` has no rows: ask for at least one sequence.")
    tokens = torch.full((num_rows, max_len), policy.pad, dtype=torch.long, device=z.device)
    log_probs = torch.zeros(num_rows, max_len, device=z.device) if options.with_log_probs else None
    rows = torch.arange(num_rows, device=z.device)
    state = policy.start(z)
    prev = rows.new_full((num_rows,), policy.eos)
    for t in range(max_len):
        features, state = policy.advance(prev, state)
        prev, logits = _draw(policy, features, uniform(keys, t), t, options)
        if prefix is not None and t < prefix.size(1):
            given = prefix[rows, t]
            prev = torch.where(given == policy.pad, prev, given)
        tokens[rows, t] = prev
        if log_probs is not None and logits is not None:
            log_probs[rows, t] = torch.log_softmax(logits, dim=1).gather(1, prev.unsqueeze(1)).squeeze(1)
        if z.device.type in DROP_FINISHED_ON:
            live = (prev != policy.eos).nonzero().squeeze(1)
            if live.numel() == 0:
                break
            if live.numel() < rows.numel():
                rows, keys, prev = rows[live], keys[live], prev[live]
                state = select_rows(state, live)
    return _trimmed(policy, tokens[:, : t + 1], log_probs)


def _draw(
    policy: Policy, features: Tensor, numbers: Tensor, t: int, options: SamplingOptions
) -> tuple[Tensor, Tensor | None]:
    """Tokens (R,) of step *t*, drawn by *numbers* (R,), and their logits (R, V) if the options need them whole."""
    if not (options.min_len or options.unk_penalty or options.with_log_probs):
        truncation = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
        return pick_in_blocks(policy.logits, features, numbers, **truncation), None
    logits = policy.logits(features).float() / options.temperature
    if t < options.min_len:
        logits[:, policy.eos] = -torch.inf
    if options.unk is not None:
        logits[:, options.unk] -= options.unk_penalty
    return pick(logits, numbers, top_k=options.top_k, top_p=options.top_p), logits


def _trimmed(policy: Policy, tokens: Tensor, log_probs: Tensor | None) -> Samples:
    """Samples as wide as the longest of them, padded after their EOS."""
    tokens, lengths, mask = cut_after_eos(tokens, policy.eos, policy.pad)
    if tokens.device.type not in DROP_FINISHED_ON or lengths.max() < tokens.size(1):
        width = int(lengths.max())
        tokens, mask = tokens[:, :width], mask[:, :width]
    if log_probs is not None:
        log_probs = log_probs[:, : tokens.size(1)].masked_fill(mask, 0.0)
    return Samples(tokens, lengths, mask, log_probs)


def cut_after_eos(tokens: Tensor, eos: int, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Replace everything after the first EOS of each row by padding.

    Args:
        tokens: (B, T)
        eos: number of the token that ends a sequence
        pad: number of the padding token

    Returns:
        tokens (B, T), lengths (B,), which count the EOS (a row without EOS keeps its length T), and the padding mask
    """
    ended_before = (tokens == eos).cumsum(dim=1).roll(1, dims=1)
    ended_before[:, 0] = 0
    after = ended_before > 0
    return tokens.masked_fill(after, pad), (~after).sum(dim=1), after


@torch.no_grad()
def complete_prefixes(policy: Policy, trajectory: Trajectory, plan: RolloutPlan, draws: Draws) -> Iterator[Completions]:
    """Complete every prefix of length stride, 2 stride, ... < length of its sequence, K times.

    All prefixes and all completions of a chunk advance together in time: at step t the completions of the prefixes
    of length t join those under way, from the state that the policy reaches on the given sequence itself.

    Args:
        policy: see :class:`Policy`
        trajectory: the sequences whose prefixes are completed
        plan: see :class:`RolloutPlan`; `max_len` is at least the width of the trajectory
        draws: random numbers of the update; those of a completion are keyed by its sentence, prefix length and number
    """
    if plan.max_len < trajectory.tokens.size(1):
        raise ValueError(
            f"`max_len` must be at least the width of `tokens` ({trajectory.tokens.size(1)}) but is {plan.max_len}."
        )
    lengths = trajectory.lengths.tolist()
    for chunk in _chunks(lengths, plan):
        yield _Completing(policy, trajectory, plan, chunk).run(draws)


class _Chunk(NamedTuple):
    """Completions that are made together.

    Attributes:
        sentences: rows of the batch
        joining: prefix length -> rows of the batch that have a prefix of this length completed
        rollouts: numbers of the completions of each prefix, of 0 .. K-1
    """

    sentences: range
    joining: dict[int, list[int]]
    rollouts: range


def _chunks(lengths: list[int], plan: RolloutPlan) -> Iterator[_Chunk]:
    """Cut (sentences x prefix lengths x rollouts) into boxes of at most `chunk_rows` rows."""
    checkpoints = list(range(plan.stride, max(lengths, default=0), plan.stride))
    if not checkpoints:
        return
    checkpoints_each = min(len(checkpoints), plan.chunk_rows)
    rollouts_each = min(plan.num_rollouts, max(1, plan.chunk_rows // checkpoints_each))
    sentences_each = max(1, plan.chunk_rows // (checkpoints_each * rollouts_each))
    for c in range(0, len(checkpoints), checkpoints_each):
        for s in range(0, len(lengths), sentences_each):
            sentences = range(s, min(s + sentences_each, len(lengths)))
            # Which sentences each checkpoint is inside of is known on the host: no waiting for the device.
            joining = {
                i: members
                for i in checkpoints[c : c + checkpoints_each]
                if (members := [s for s in sentences if lengths[s] > i])
            }
            for r in range(0, plan.num_rollouts, rollouts_each):
                if joining:
                    yield _Chunk(sentences, joining, range(r, min(r + rollouts_each, plan.num_rollouts)))


class _Completing:
    """One chunk on its way: the given sequences (the path), and the completions that have left it."""

    def __init__(self, policy: Policy, trajectory: Trajectory, plan: RolloutPlan, chunk: _Chunk):
        self.policy, self.trajectory, self.plan, self.chunk = policy, trajectory, plan, chunk
        self.device = trajectory.tokens.device
        self.per_prefix = len(chunk.rollouts)
        self.last_checkpoint = max(chunk.joining)
        span = slice(chunk.sentences.start, chunk.sentences.stop)
        self.path_tokens = trajectory.tokens[span]
        self.path_state = policy.start(trajectory.z[span])
        self.path_prev = self.path_tokens.new_full((self.path_tokens.size(0),), policy.eos)
        self.joined = 0  # rows, in the order in which they join
        self.live = torch.zeros(0, dtype=torch.long, device=self.device)  # numbers of the rows under way
        self.prev = self.live
        self.state: State = ()

    def run(self, draws: Draws) -> Completions:
        """Lay out all rows, then go through time."""
        rows, prefix_lengths, numbers = self._rows()
        uniform = draws.uniforms(Stream.ROLLOUT, self.trajectory.ids[rows], numbers, self.plan.max_len)
        tokens = self._prefixes(rows, prefix_lengths)
        for t in range(self.plan.max_len):
            if t > self.last_checkpoint and not self.live.numel():
                break
            self._step(t, rows, uniform[:, t])
            if self.live.numel():
                tokens[self.live, t] = self.prev
                self._drop_finished()
        tokens, lengths, mask = cut_after_eos(tokens, self.policy.eos, self.policy.pad)
        return Completions(tokens, lengths, mask, rows, prefix_lengths)

    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sequence, prefix length and number of each completion, (R,) each, in the order in which they join."""
        joining = self.chunk.joining
        members = torch.tensor([s for group in joining.values() for s in group], device=self.device)
        prefix_lengths = torch.tensor([i for i, group in joining.items() for _ in group], device=self.device)
        prefix_lengths = prefix_lengths.repeat_interleave(self.per_prefix)
        rollouts = torch.arange(self.chunk.rollouts.start, self.chunk.rollouts.stop, device=self.device)
        numbers = prefix_lengths * self.plan.num_rollouts + rollouts.repeat(members.numel())
        return members.repeat_interleave(self.per_prefix), prefix_lengths, numbers

    def _prefixes(self, rows: Tensor, prefix_lengths: Tensor) -> Tensor:
        """Tokens (R, max_len) of which only the prefixes are there."""
        given = torch.arange(self.plan.max_len, device=self.device) < prefix_lengths.unsqueeze(1)
        missing = self.plan.max_len - self.trajectory.tokens.size(1)
        padded = torch.nn.functional.pad(self.trajectory.tokens, (0, missing), value=self.policy.pad)
        return padded[rows].masked_fill(~given, self.policy.pad)

    def _step(self, t: int, rows: Tensor, uniform: Tensor) -> None:
        """One token of each row under way; the completions of prefixes of length *t* leave the path and join them."""
        if self.live.numel():
            features, self.state = self.policy.advance(self.prev, self.state)
            self.prev = pick_in_blocks(self.policy.logits, features, uniform[self.live])
        if t > self.last_checkpoint:
            return
        features, self.path_state = self.policy.advance(self.path_prev, self.path_state)
        self.path_prev = self.path_tokens[:, min(t, self.path_tokens.size(1) - 1)]
        if t in self.chunk.joining:
            stop = self.joined + len(self.chunk.joining[t]) * self.per_prefix
            local = rows[self.joined : stop : self.per_prefix] - self.chunk.sentences.start
            # The distribution after a prefix is the same for all of its completions.
            numbers = uniform[self.joined : stop].view(-1, self.per_prefix)
            self._join(pick_in_blocks(self.policy.logits, features[local], numbers).view(-1), local, stop)

    def _join(self, chosen: Tensor, local: Tensor, stop: int) -> None:
        """Rows up to *stop* leave the sequences *local* of the path with the tokens *chosen*."""
        new = torch.arange(self.joined, stop, device=self.device)
        self.joined = stop
        repeated = local.repeat_interleave(self.per_prefix)
        state = select_rows(self.path_state, repeated)
        if self.live.numel():
            new, chosen = torch.cat([self.live, new]), torch.cat([self.prev, chosen])
            state = join_rows(self.state, state)
        self.live, self.prev, self.state = new, chosen, state

    def _drop_finished(self) -> None:
        if self.device.type not in DROP_FINISHED_ON:
            return
        unfinished = (self.prev != self.policy.eos).nonzero().squeeze(1)
        if unfinished.numel() < self.live.numel():
            self.live, self.prev = self.live[unfinished], self.prev[unfinished]
            self.state = select_rows(self.state, unfinished)


class PrefixValues(NamedTuple):
    """What prefixes are worth.

    Attributes:
        rewards: (B, T), float32, 0 outside *positions*
        positions: (B, T), bool
    """

    rewards: Tensor
    positions: Tensor


def reward_positions(lengths: Tensor, max_len: int, stride: int) -> Tensor:
    """Where rewards are given: every *stride* tokens and at the end, (B, T) bool, ceil(length / stride) per row.

    Args:
        lengths: (B,), at least 1
        max_len: T
        stride: at least 1
    """
    if stride < 1:
        raise ValueError(f"`stride` must be at least 1 but is {stride}: 1 gives every token a reward.")
    prefix_lengths = torch.arange(1, max_len + 1, device=lengths.device)
    ends = prefix_lengths == lengths.unsqueeze(1)
    inside = (prefix_lengths % stride == 0) & (prefix_lengths < lengths.unsqueeze(1))
    return ends | inside


@torch.no_grad()
def final_values(reward: Reward, trajectory: Trajectory) -> PrefixValues:
    """The reward of each whole sequence, at its last position; nothing is completed."""
    last = (trajectory.lengths - 1).unsqueeze(1)
    values = torch.zeros(trajectory.tokens.shape, device=trajectory.tokens.device)
    values.scatter_(1, last, reward.score(trajectory.tokens, trajectory.mask).float().unsqueeze(1))
    return PrefixValues(values, torch.zeros_like(trajectory.mask).scatter_(1, last, True))


@torch.no_grad()
def prefix_values(
    policy: Policy, reward: Reward, trajectory: Trajectory, plan: RolloutPlan, draws: Draws
) -> PrefixValues:
    """Value of each rewarded prefix: the mean reward of its completions.

    The last position of a sequence has the reward of the sequence itself. Rewarded positions are those of
    :func:`reward_positions`.

    Args:
        policy: completes the prefixes
        reward: scores completions and whole sequences
        trajectory: the sequences whose prefixes are valued
        plan: see :class:`RolloutPlan`
        draws: random numbers of the update
    """
    values = final_values(reward, trajectory).rewards
    for completions in complete_prefixes(policy, trajectory, plan, draws):
        scores = reward.score_completions(completions, trajectory.tokens).float() / plan.num_rollouts
        values.index_put_((completions.rows, completions.prefix_lengths - 1), scores, accumulate=True)
    return PrefixValues(values, reward_positions(trajectory.lengths, values.size(1), plan.stride))
