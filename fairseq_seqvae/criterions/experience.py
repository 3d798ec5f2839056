"""Sequences that were rewarded: of the update itself, or of one before, kept so that every resumed run has them too."""

from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.rollouts.policy import Trajectory
from fairseq_seqvae.core.rollouts.rollout import PrefixValues
from fairseq_seqvae.core.schedules.run_state import RunState
from fairseq_seqvae.core.schedules.turns import TurnPlan
from fairseq_seqvae.core.sequences import padding_mask
from fairseq_seqvae.support.processes import number_and_count, of_all

# Names in the run state.
POOL, SEEN = "ppo_pool", "seen_sequences"


class Experience(NamedTuple):
    """What a policy learns from.

    Attributes:
        trajectory: R sequences, those of a group one after the other
        values: of their prefixes; None: they are of an update before
        advantages: (R, T), of such
        log_probs: (R, T), of the policy that has drawn such, 0 at padding
        scores: (R,), what such whole sequences have earned
    """

    trajectory: Trajectory
    values: PrefixValues | None = None
    advantages: Tensor | None = None
    log_probs: Tensor | None = None
    scores: Tensor | None = None


def pack(trajectory: Trajectory, scores: Tensor, advantages: Tensor, log_probs: Tensor) -> list[float]:
    """Three sizes, then all numbers; float64 holds each of them exactly."""
    (rows, width), dim = trajectory.tokens.shape, trajectory.z.size(1)
    parts = trajectory.tokens, trajectory.lengths, trajectory.ids, scores, trajectory.z, advantages, log_probs
    return [rows, width, dim, *torch.cat([part.detach().double().flatten() for part in parts]).tolist()]


def unpack(numbers: tuple[float, ...], device: torch.device) -> Experience:
    """The opposite of :func:`pack`."""
    rows, width, dim = map(int, numbers[:3])
    sizes = rows * width, rows, rows, rows, rows * dim, rows * width, rows * width
    parts = torch.tensor(numbers[3:], dtype=torch.float64, device=device).split(sizes)
    tokens, lengths, ids = parts[0].view(rows, width).long(), parts[1].long(), parts[2].long()
    z, advantages, log_probs = (part.float().view(rows, -1) for part in parts[4:])
    trajectory = Trajectory(tokens, lengths, padding_mask(lengths, width), z, ids)
    return Experience(trajectory, None, advantages, log_probs, parts[3].float())


class ExperiencePool:
    """Experience that serves several updates of the generator in a row.

    Which update draws and which one reuses is a function of their numbers. What is reused is in the run state, that of
    all processes in each of them; so a run resumes exactly, even with another number of processes.

    Args:
        reuse: updates of the generator that share what was drawn in the first of them
    """

    def __init__(self, reuse: int):
        self.reuse = reuse
        self._drawn: list[list[float]] = []  # in this update, by this process
        self._batch = -1  # number of the batch within the update

    def begin(self, is_first_batch: bool) -> None:
        """Begin a batch. What waits at the first one of an update is of one that was given up."""
        if is_first_batch:
            self._drawn, self._batch = [], -1
        self._batch += 1

    def find(self, state: RunState, update: int, plan: TurnPlan, device: torch.device) -> Experience | None:
        """What the present batch of *update* reuses; None: it has to draw."""
        known, turns = state.get(POOL), plan.generator_turns_before
        if known is None or not plan.adversarial_from <= known[0] < update:
            return None
        if turns(int(known[0])) // self.reuse != turns(update) // self.reuse:
            return None
        count = int(known[1])
        own, processes = number_and_count()
        chosen = (self._batch * processes + own) % count
        ends = [2 + count + sum(map(int, known[2 : 2 + number])) for number in (chosen, chosen + 1)]
        return unpack(known[slice(*ends)], device)

    def add(self, trajectory: Trajectory, scores: Tensor, advantages: Tensor, log_probs: Tensor) -> None:
        """Keep what the present batch has drawn."""
        self._drawn.append(pack(trajectory, scores, advantages, log_probs))

    def forget_batch(self) -> None:
        """Do not keep what the present batch has drawn."""
        del self._drawn[self._batch :]

    def end_update(self, state: RunState, update: int) -> None:
        """Put what all processes have drawn into the run state; all of them must call this."""
        # One process would have the first batches of all processes first, then the second ones.
        shared = [one for batch in zip_longest(*of_all(self._drawn)) for one in batch if one is not None]
        self._drawn = []
        if shared:
            numbers = [number for one in shared for number in one]
            state.set(POOL, (update, len(shared), *map(len, shared), *numbers))
