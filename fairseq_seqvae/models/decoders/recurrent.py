"""Decoder p(y|z): fused over time for training, one step at a time for sampling."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.models import FairseqIncrementalDecoder
from torch import Tensor, nn

from fairseq_seqvae.core import noise

# Log-odds of symbols that are no outputs: far enough for a probability of exactly 0, finite in half precision.
FORBIDDEN_LOGIT = -1e4


@dataclass(frozen=True)
class DecoderShape:
    """What a decoder is like.

    Attributes:
        hidden_dim: size of a layer
        layers: number of layers
        latent_dim: Z; 0: the initial state is a parameter
        dropout: probability, on the inputs, between layers and before the output, when training
        word_dropout: probability of replacing an input token by <unk>, when training
        residual: residual connections between layers
        latent_input: give z at each step too
        share_output: use the embeddings as the output matrix, after a linear map to their size if sizes differ
        fixed_length: number of tokens of every sequence, which then has no EOS; 0: sequences end with EOS
        max_positions: longest sequence, EOS included
    """

    hidden_dim: int
    layers: int
    latent_dim: int
    dropout: float = 0.0
    word_dropout: float = 0.0
    residual: bool = False
    latent_input: bool = False
    share_output: bool = False
    fixed_length: int = 0
    max_positions: int = 1024


class SeqVAEDecoder(FairseqIncrementalDecoder):
    """LSTM decoder. The latent vector gives its initial state and, by option, is an input at each step.

    It is a :class:`fairseq_seqvae.core.rollouts.policy.Policy`; the state is (z, h_0, c_0, h_1, c_1, ...), each
    (R, size).

    Args:
        dictionary: fairseq dictionary; its symbols that stand for nothing are never outputs
        embedding: token embeddings (V, E)
        shape: sizes and options
    """

    def __init__(self, dictionary: Dictionary, embedding: nn.Embedding, shape: DecoderShape):
        super().__init__(dictionary)
        self.embedding = embedding
        self.hidden_dim = shape.hidden_dim
        self.dropout = shape.dropout
        self.word_dropout = shape.word_dropout
        self.residual = shape.residual
        self.latent_input = shape.latent_input
        self.fixed_length = shape.fixed_length
        self._max_positions = shape.max_positions
        self.eos, self.pad, self.unk = dictionary.eos(), dictionary.pad(), dictionary.unk()
        latent_dim, layers, hidden_dim = shape.latent_dim, shape.layers, shape.hidden_dim

        input_dim = embedding.embedding_dim + (latent_dim if shape.latent_input else 0)
        self.layers: Any = nn.ModuleList(
            nn.LSTM(input_dim if i == 0 else hidden_dim, hidden_dim, batch_first=True) for i in range(layers)
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            self.initial_state = nn.Linear(latent_dim, 2 * layers * hidden_dim)
        self.share_output = shape.share_output
        self.to_embedding = None
        if shape.share_output:
            if embedding.embedding_dim != hidden_dim:
                self.to_embedding = nn.Linear(hidden_dim, embedding.embedding_dim, bias=False)
            self.output_bias = nn.Parameter(torch.zeros(len(dictionary)))
        else:
            self.output = nn.Linear(hidden_dim, len(dictionary))
        self.register_buffer("output_mask", self._output_mask(dictionary), persistent=False)

    def _output_mask(self, dictionary: Dictionary) -> Tensor:
        """Added to the logits, (V,): symbols that are never outputs become impossible."""
        # fairseq-preprocess fills the dictionary up to a multiple of 8 with symbols of this name.
        forbidden = [i for i, symbol in enumerate(dictionary.symbols) if symbol.startswith("madeupword")]
        forbidden += [dictionary.bos(), dictionary.pad()] + ([dictionary.eos()] if self.fixed_length else [])
        mask = torch.zeros(len(dictionary))
        mask[forbidden] = FORBIDDEN_LOGIT
        return mask

    # -- the policy: one step for all rows --

    def start(self, z: Tensor) -> tuple[Tensor, ...]:
        """State before the first token, for *z* (R, Z)."""
        z = z.to(self.initial_state.weight.dtype)
        return (z, *self.initial_state(z).split(self.hidden_dim, dim=1))

    def advance(self, prev_tokens: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Consume *prev_tokens* (R,); features (R, H) for the next token and the new state."""
        z = state[0]
        x = self.embedding(prev_tokens)
        if self.latent_input:
            x = torch.cat([x, z], dim=1)
        new_state = [z]
        for i, layer in enumerate(self.layers):
            h, c = torch.lstm_cell(
                x,
                (state[1 + 2 * i], state[2 + 2 * i]),
                layer.weight_ih_l0,
                layer.weight_hh_l0,
                layer.bias_ih_l0,
                layer.bias_hh_l0,
            )
            new_state += [h, c]
            x = h + x if self.residual and i > 0 else h
        return x, tuple(new_state)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (..., V) of features (..., H)."""
        if self.share_output:
            if self.to_embedding is not None:
                features = self.to_embedding(features)
            return F.linear(features, self.embedding.weight, self.output_bias + self.output_mask)
        return F.linear(features, self.output.weight, self.output.bias + self.output_mask)

    # -- teacher forcing: one fused call a layer for all time steps --

    def teacher_forced(
        self, prev_output_tokens: Tensor, z: Tensor, regularize: bool, keys: Tensor | None = None
    ) -> Tensor:
        """Logits (B, T, V) given the previous tokens (B, T) and z (B, Z).

        Args:
            regularize: apply dropout and word dropout (in training mode); a policy gradient is taken without, since
                its sequences were sampled without
            keys: (B,), keys of the random numbers that choose the dropped words; needed with word dropout
        """
        regularize = regularize and self.training
        if regularize and self.word_dropout > 0:
            if keys is None:
                raise ValueError("word dropout needs `keys`, from fairseq_seqvae.noise.row_keys.")
            drop = noise.uniforms(keys, prev_output_tokens.size(1)) < self.word_dropout
            drop[:, 0] = False  # the start symbol says nothing that could be hidden
            prev_output_tokens = prev_output_tokens.masked_fill(drop, self.unk)
        z, *initial = self.start(z)
        x = self.embedding(prev_output_tokens)
        if self.latent_input:
            x = torch.cat([x, z.unsqueeze(1).expand(-1, x.size(1), -1)], dim=2)
        for i, layer in enumerate(self.layers):
            x = F.dropout(x, self.dropout, regularize)
            h, c = initial[2 * i].unsqueeze(0), initial[2 * i + 1].unsqueeze(0)
            outputs, _ = layer(x, (h.contiguous(), c.contiguous()))
            x = outputs + x if self.residual and i > 0 else outputs
        return self.logits(F.dropout(x, self.dropout, regularize))

    # -- fairseq's interface --

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]] | None = None,
        incremental_state: dict[str, dict[str, Tensor | None]] | None = None,
        **unused: Any,
    ) -> tuple[Tensor, dict]:
        """Logits (B, T, V), or (B, 1, V) of the last step when given an *incremental_state*."""
        if encoder_out is None:
            raise TypeError("`encoder_out` is missing: the decoder begins from its z.")
        z = encoder_out["z"][0]
        if incremental_state is None:
            return self.teacher_forced(prev_output_tokens, z, regularize=False), {"attn": [None]}
        cached = self.get_incremental_state(incremental_state, "state")
        if cached is None:
            state = self.start(z)
            for t in range(prev_output_tokens.size(1) - 1):
                _, state = self.advance(prev_output_tokens[:, t], state)
        else:
            state = tuple(cached[str(i)] for i in range(len(cached)))
        features, state = self.advance(prev_output_tokens[:, -1], state)
        self.set_incremental_state(incremental_state, "state", {str(i): s for i, s in enumerate(state)})
        logits = self.logits(features).unsqueeze(1)
        if self.fixed_length and prev_output_tokens.size(1) > self.fixed_length:
            # The sequence is complete. fairseq's beam search ends hypotheses with EOS only: it gets it for nothing.
            logits = torch.full_like(logits, FORBIDDEN_LOGIT)
            logits[..., self.eos] = 0.0
        return logits, {"attn": [None]}

    def reorder_incremental_state(
        self, incremental_state: dict[str, dict[str, Tensor | None]], new_order: Tensor
    ) -> None:
        """Select rows of the cached state for beam search."""
        cached = self.get_incremental_state(incremental_state, "state")
        if cached is not None:
            reordered = {name: s.index_select(0, new_order) for name, s in cached.items()}
            self.set_incremental_state(incremental_state, "state", reordered)

    def max_positions(self) -> int:
        """Longest sequence, EOS included."""
        return self._max_positions
