"""A decoder that unrolls z by transposed convolutions, and an LSTM on top of them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_seqvae.core.networks.convolutions import Unrolling
from fairseq_seqvae.core.rollouts.policy import Shared, State
from fairseq_seqvae.models.config import conv_channels, conv_positions
from fairseq_seqvae.models.decoders.recurrent import SeqVAEDecoder
from fairseq_seqvae.models.registry import register_decoder


@register_decoder("hybrid")
class HybridDecoder(SeqVAEDecoder):
    """z becomes features of each position at once, which the LSTM reads beside the previous token.

    Semeniuta, Severyn, Barth 2017, "A hybrid convolutional variational autoencoder for text generation". What the
    features alone say of the tokens gives an auxiliary loss, so that z reaches them whatever the LSTM does.

    The state is (z, position (R,), row of the features (R,), Shared(features), h_0, c_0, ...): the features (B, N + 1,
    D) are made once by :meth:`start`, the last of them are 0 and stand for all positions from N on.
    """

    def add_inputs(self, options: Any) -> int:
        """See :meth:`SeqVAEDecoder.add_inputs`."""
        channels = conv_channels(options)
        self.unrolling = Unrolling(self.latent_dim, channels[::-1], conv_positions(options))
        self.auxiliary_output = nn.Linear(channels[0], len(self.dictionary))
        return channels[0] + super().add_inputs(options)

    def start(self, z: Tensor) -> State:
        """See :meth:`SeqVAEDecoder.start`."""
        z, *cells = super().start(z)
        rows = torch.arange(len(z), device=z.device)
        table = Shared(F.pad(self.unrolling(z), (0, 0, 0, 1)))
        return (z, torch.zeros_like(rows), rows, table, *cells)

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """See :meth:`SeqVAEDecoder.advance`."""
        z, position, rows, table, *cells = state
        parts = [self.embedding(prev_tokens), table.value[rows, position.clamp(max=self.unrolling.positions)]]
        x = torch.cat(parts + ([z] if self.latent_input else []), dim=1)
        features, cells = self.step(x, cells, z)
        return features, (z, position + 1, rows, table, *cells)

    def read(self, prev_output_tokens: Tensor, z: Tensor, regularize: bool) -> tuple[Tensor, Tensor | None]:
        """See :meth:`SeqVAEDecoder.read`."""
        z, *cells = super().start(z)
        length = prev_output_tokens.size(1)
        context = self.unrolling(z, by_batch=regularize)[:, :length]
        context = F.pad(context, (0, 0, 0, length - context.size(1)))
        parts = [self.embedding(prev_output_tokens), context]
        if self.latent_input:
            parts.append(z.unsqueeze(1).expand(-1, length, -1))
        return self.run(torch.cat(parts, dim=2), cells, z, regularize), context

    def max_positions(self) -> int:
        """Longest sequence that is generated, EOS included: there is nothing of z beyond the unrolled positions."""
        longest = super().max_positions()
        # What has a fixed length has no EOS either: its length is checked elsewhere.
        return longest if self.fixed_length else min(longest, self.unrolling.positions)
