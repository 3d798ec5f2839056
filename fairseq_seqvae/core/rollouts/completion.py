"""Monte Carlo completion of prefixes.

All rows advance together, finished rows leave the batch, and no prefix is ever run twice: the completions of a prefix
start from the state that the policy has after it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core import noise, sequences
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import (
    Completions,
    Policy,
    RolloutPlan,
    State,
    Trajectory,
    choose,
    drops_finished_rows,
)


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
        keys = draws.keys(Stream.ROLLOUT, self.trajectory.ids[rows], numbers)
        tokens = self._prefixes(rows, prefix_lengths)
        last_checkpoint = max(self.chunk.joining)
        for t in range(self.plan.max_len):
            if t > last_checkpoint and not self.live.numel():
                break
            if self.live.numel():
                features, self.state = self.policy.advance(self.prev, self.state)
                self.prev = choose(self.policy, features, noise.uniform(keys[self.live], t))
            if t <= last_checkpoint:
                self._follow_path(t, rows, keys)
            if self.live.numel():
                tokens[self.live, t] = self.prev
                self._drop_finished()
        tokens, lengths = sequences.cut_after_eos(tokens, self.policy.eos, self.policy.pad)
        return Completions(self._rewidened(tokens, lengths), lengths, rows, prefix_lengths)

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

    def _follow_path(self, t: int, rows: Tensor, keys: Tensor) -> None:
        """Advance along the given sequences; completions of prefixes of length *t* leave them and join the others."""
        features, self.path_state = self.policy.advance(self.path_prev, self.path_state)
        self.path_prev = self.path_tokens[:, min(t, self.path_tokens.size(1) - 1)]
        if t not in self.chunk.joining:
            return
        stop = self.joined + len(self.chunk.joining[t]) * self.per_prefix
        new = torch.arange(self.joined, stop, device=self.device)
        local = rows[self.joined : stop : self.per_prefix] - self.chunk.sentences.start
        self.joined = stop
        # The distribution after a prefix is the same for all of its completions.
        uniform = noise.uniform(keys[new], t).view(-1, self.per_prefix)
        chosen = choose(self.policy, features[local], uniform).view(-1)
        repeated = local.repeat_interleave(self.per_prefix)
        state = tuple(s[repeated] for s in self.path_state)
        if self.live.numel():
            new, chosen = torch.cat([self.live, new]), torch.cat([self.prev, chosen])
            state = tuple(torch.cat(pair) for pair in zip(self.state, state, strict=True))
        self.live, self.prev, self.state = new, chosen, state

    def _drop_finished(self) -> None:
        if not drops_finished_rows(self.device):
            return
        unfinished = (self.prev != self.policy.eos).nonzero().squeeze(1)
        if unfinished.numel() < self.live.numel():
            self.live, self.prev = self.live[unfinished], self.prev[unfinished]
            self.state = tuple(s[unfinished] for s in self.state)

    def _rewidened(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        if not drops_finished_rows(self.device):
            return tokens
        # Rows that left early are padded already; a row without EOS has the length max_len.
        tokens = tokens[:, : max(1, int(lengths.max()))]
        return torch.nn.functional.pad(tokens, (0, self.plan.max_len - tokens.size(1)), value=self.policy.pad)
