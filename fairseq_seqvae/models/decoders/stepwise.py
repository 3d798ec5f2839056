"""A decoder with a latent vector per step: it reads a part of z of its own beside each previous token."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_seqvae.core.rollouts.policy import Shared, State
from fairseq_seqvae.models.config import step_positions
from fairseq_seqvae.models.decoders.recurrent import SeqVAEDecoder
from fairseq_seqvae.models.registry import register_decoder


@register_decoder("stepwise")
class StepwiseDecoder(SeqVAEDecoder):
    """Each step has a latent vector z_t, which enters the LSTM with the previous token; z is all of them, one by one.

    The generator of Wang, Qin, Wan 2017, "Text generation based on generative adversarial nets with latent variable"
    (VGAN), but z_t has the prior of any z, such as N(0, I), whatever the state: the LSTM's gates combine the two. The
    first state is made of nothing but the label, where there is one.

    The state is (position (R,), row of the vectors (R,), Shared(vectors), h_0, c_0, ...): the vectors (B, N + 1, D) are
    made once by :meth:`start`, the last of them are 0 and stand for all positions from N on.
    """

    def add_inputs(self, options: Any) -> int:
        """See :meth:`SeqVAEDecoder.add_inputs`."""
        self.positions = step_positions(options)
        self.step_dim = (self.latent_dim - self.label_dim) // self.positions
        self.start_dim = self.label_dim
        return self.step_dim + self.label_dim

    def start(self, z: Tensor) -> State:
        """See :meth:`SeqVAEDecoder.start`."""
        code = self.code(z)
        steps = code[:, : self.positions * self.step_dim].view(len(z), self.positions, self.step_dim)
        label = code[:, self.positions * self.step_dim :]
        vectors = torch.cat([F.pad(steps, (0, 0, 0, 1)), label.unsqueeze(1).expand(-1, self.positions + 1, -1)], dim=2)
        rows = torch.arange(len(z), device=z.device)
        cells = self.initial_state(label).split(self.hidden_dim, dim=1)
        return (torch.zeros_like(rows), rows, Shared(vectors), *cells)

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See :meth:`SeqVAEDecoder.advance`."""
        position, rows, table, *cells = state
        own = table.value[rows, position.clamp(max=self.positions)]
        features, cells = self.step(torch.cat([self.embedding(prev_tokens), own], dim=1), cells, own)
        return features, (position + 1, rows, table, *cells)

    def read(self, prev_output_tokens: Tensor, z: Tensor, regularize: bool) -> tuple[Tensor, Tensor | None]:
        """See :meth:`SeqVAEDecoder.read`."""
        _, _, table, *cells = self.start(z)
        places = torch.arange(prev_output_tokens.size(1), device=z.device).clamp(max=self.positions)
        x = torch.cat([self.embedding(prev_output_tokens), table.value[:, places]], dim=2)
        return self.run(x, cells, z, regularize), None

    def max_positions(self) -> int:
        """Longest sequence that is generated, EOS included: later steps would have no latent vector."""
        longest = super().max_positions()
        return longest if self.fixed_length else min(longest, self.positions)
