"""A decoder with two levels: one vector per segment, and an LSTM that starts each segment from its vector."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_seqvae.core.networks.convolutions import STRIDE, Unrolling
from fairseq_seqvae.core.rollouts.policy import Shared, State
from fairseq_seqvae.models.config import num_segments, segment_channels
from fairseq_seqvae.models.decoders.recurrent import SeqVAEDecoder
from fairseq_seqvae.models.registry import register_decoder


@register_decoder("hierarchical")
class HierarchicalDecoder(SeqVAEDecoder):
    """A conductor makes a vector per segment of z; a lower LSTM starts from it and reads it at each step.

    Roberts et al. 2018, "A hierarchical latent vector model for learning long-term structure in music". Between
    segments only the previous token is handed on, so z alone carries what lies further back; with ``lookback`` it need
    only say what comes back. With ``segment_channels`` a linear map of z is added to each vector, and transposed
    convolutions unroll it to features of each step of the segment, which are read in its place and have an auxiliary
    loss as in :class:`fairseq_seqvae.models.decoders.hybrid.HybridDecoder`.

    The state is (z, position (R,), row of the tables (R,), Shared((plans, initial)), earlier inputs (R, W), h_0, c_0,
    ...): what the steps of a segment read (B, S, L or 1, D) and the states that segments begin with (B, S, 2 N H) are
    made once by :meth:`start`, and W is the longest distance looked back, in tokens, 0 without. Positions beyond the
    last segment begin it again.
    """

    def add_inputs(self, options: Any) -> int:
        """See :meth:`SeqVAEDecoder.add_inputs`."""
        self.segment_length: int = options.segment_length
        self.num_segments = num_segments(options)
        self.start_dim: int = options.conductor_dim
        self.conductor_state = nn.Linear(self.latent_dim, 2 * self.start_dim)
        self.conductor = nn.LSTM(self.latent_dim, self.start_dim, batch_first=True)
        channels, plan_dim = segment_channels(options), self.start_dim
        self.unrolling = None
        if channels:
            unit, plan_dim = STRIDE ** len(channels), channels[-1]
            self.unrolling = Unrolling(self.start_dim, channels, -(-self.segment_length // unit) * unit)
            self.auxiliary_output = nn.Linear(plan_dim, len(self.dictionary))
            # A way from z to each vector past the recurrence, which alone learns slowly which segment is which.
            self.shortcut = nn.Linear(self.latent_dim, self.num_segments * self.start_dim)
        return plan_dim + super().add_inputs(options)

    def start(self, z: Tensor) -> State:
        """See :meth:`SeqVAEDecoder.start`."""
        return self._start(z)

    def _start(self, z: Tensor, by_batch: bool = False) -> State:
        """:meth:`start`; *by_batch* normalises by the statistics of the batch, as only a loss on data may."""
        z = self.code(z)
        h, c = torch.tanh(self.conductor_state(z)).unsqueeze(0).split(self.start_dim, dim=2)
        vectors, _ = self.conductor(z.unsqueeze(1).expand(-1, self.num_segments, -1), (h.contiguous(), c.contiguous()))
        if self.unrolling is not None:
            vectors = vectors + self.shortcut(z).view_as(vectors)
        initial = self.initial_state(vectors)
        rows = torch.arange(len(z), device=z.device)
        earlier = self.nothing_earlier(z)
        if self.unrolling is None:
            plans = vectors.unsqueeze(2)
        else:
            unrolled = self.unrolling(vectors.flatten(0, 1), by_batch)[:, : self.segment_length]
            plans = unrolled.reshape(len(z), self.num_segments, self.segment_length, -1)
        table = Shared((plans, initial))
        return (z, torch.zeros_like(rows), rows, table, earlier, *initial[:, 0].split(self.hidden_dim, 1))

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See :meth:`SeqVAEDecoder.advance`."""
        z, position, rows, table, earlier, *cells = state
        segment = (position // self.segment_length).clamp(max=self.num_segments - 1)
        plans, initial = table.value
        step = (position % self.segment_length).clamp(max=plans.size(2) - 1)
        begins = (position % self.segment_length == 0).unsqueeze(1)
        first = initial[rows, segment].split(self.hidden_dim, dim=1)
        cells = [torch.where(begins, new, old) for new, old in zip(first, cells, strict=True)]
        parts = [self.embedding(prev_tokens), plans[rows, segment, step]]
        if self.distances:
            earlier, back = self.look_back(prev_tokens, earlier)
            parts += back
        features, cells = self.step(torch.cat(parts + ([z] if self.latent_input else []), dim=1), cells, z)
        return features, (z, position + 1, rows, table, earlier, *cells)

    def read(self, prev_output_tokens: Tensor, z: Tensor, regularize: bool) -> tuple[Tensor, Tensor | None]:
        """See :meth:`SeqVAEDecoder.read`; all segments are read at once."""
        z, _, _, table, *_ = self._start(z, by_batch=regularize)
        batch, length = prev_output_tokens.shape
        read = [prev_output_tokens, *self.looked_back(prev_output_tokens)]
        count = -(-length // self.segment_length)
        segment = torch.arange(count, device=z.device).clamp(max=self.num_segments - 1)
        plans, initial = (part[:, segment].flatten(0, 1) for part in table.value)
        plans = plans.expand(-1, self.segment_length, -1)
        z = z.repeat_interleave(count, dim=0)
        padded = [F.pad(tokens, (0, count * self.segment_length - length), value=self.pad) for tokens in read]
        x, *back = (self.embedding(tokens).view(batch * count, self.segment_length, -1) for tokens in padded)
        parts = [x, plans, *back]
        if self.latent_input:
            parts.append(z.unsqueeze(1).expand(-1, self.segment_length, -1))
        cells = list(initial.split(self.hidden_dim, dim=1))
        features = self.run(torch.cat(parts, dim=2), cells, z, regularize)

        def joined(x: Tensor) -> Tensor:
            return x.reshape(batch, count * self.segment_length, -1)[:, :length]

        return joined(features), None if self.unrolling is None else joined(plans)

    def max_positions(self) -> int:
        """Longest sequence that is generated, EOS included: beyond the last segment there is none to begin."""
        longest = super().max_positions()
        return longest if self.fixed_length else min(longest, self.num_segments * self.segment_length)
