"""The recurrent decoder: fused over time for training, one step at a time for sampling. Other decoders extend it."""

import warnings
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.models import FairseqIncrementalDecoder
from torch import Tensor, nn

from fairseq_seqvae.core import noise
from fairseq_seqvae.core.conditions import parted
from fairseq_seqvae.core.rollouts.policy import State
from fairseq_seqvae.core.rollouts.rollout import select_rows
from fairseq_seqvae.models.conditions import embedding_size
from fairseq_seqvae.models.config import lookback
from fairseq_seqvae.models.dictionaries import is_filler
from fairseq_seqvae.models.registry import register_decoder

# Log-odds of symbols that are no outputs: far enough for a probability of exactly 0, finite in half precision.
FORBIDDEN_LOGIT = -1e4


class TeacherForced(NamedTuple):
    """What a decoder says of given tokens.

    Attributes:
        logits: (B, T, V)
        auxiliary_logits: (B, T, V), what a part of the decoder says that sees z alone; or None
    """

    logits: Tensor
    auxiliary_logits: Tensor | None = None


@register_decoder("recurrent")
class SeqVAEDecoder(FairseqIncrementalDecoder):
    """LSTM decoder. The latent vector gives its initial state and, by option, is an input at each step.

    It is a :class:`fairseq_seqvae.core.rollouts.policy.Policy`; the state is (z, h_0, c_0, h_1, c_1, ...), each
    (R, size). A decoder with other inputs defines :meth:`add_inputs`, :meth:`start`, :meth:`advance`, :meth:`read`.

    With ``lookback`` the tokens at the same place of earlier segments are inputs, too (Waite 2016, "Generating
    long-term structure in songs and stories"). Then the earlier inputs (R, W) follow z in the state; W is the longest
    distance looked back, in tokens.

    Args:
        dictionary: fairseq dictionary; its symbols that stand for nothing are never outputs
        embedding: token embeddings (V, E)
        options: of the model (:class:`fairseq_seqvae.models.config.SeqVAEConfig`)
    """

    auxiliary_output: nn.Linear  # of a decoder with an auxiliary loss

    def __init__(self, dictionary: Dictionary, embedding: nn.Embedding, options: Any):
        super().__init__(dictionary)
        self.embedding = embedding
        # Where there are labels, the embedding of one stands beside z everywhere; `models.conditions` adds it.
        self.label_dim, self.label_embedding = embedding_size(options), None
        self.latent_dim: int = options.latent_dim + self.label_dim
        self.hidden_dim: int = options.decoder_hidden_dim
        self.residual: bool = options.decoder_residual
        self.dropout: float = options.dropout
        self.word_dropout: float = options.word_dropout
        self.latent_input: bool = options.latent_input
        self.fixed_length: int = options.fixed_length
        self._max_positions: int = options.max_positions
        self.eos, self.pad, self.unk = dictionary.eos(), dictionary.pad(), dictionary.unk()
        self.start_dim = self.latent_dim  # size of what the initial state is made of
        self.distances = [options.segment_length * segments for segments in lookback(options)]
        input_dim = (1 + len(self.distances)) * embedding.embedding_dim + self.add_inputs(options)
        self._add_layers(options.decoder_layers, input_dim)
        self._add_output(options.share_output_embed, options.latent_output)

    @classmethod
    def from_options(cls, options: Any, dictionary: Dictionary, embedding: nn.Embedding) -> "SeqVAEDecoder":
        """Build from the model's options."""
        return cls(dictionary, embedding, options)

    def add_inputs(self, options: Any) -> int:
        """Build what makes inputs of z; how many numbers stand beside the embeddings at each step."""
        return self.latent_dim if self.latent_input else 0

    def _add_layers(self, layers: int, input_dim: int) -> None:
        hidden_dim = self.hidden_dim
        self.layers: Any = nn.ModuleList(
            nn.LSTM(input_dim if i == 0 else hidden_dim, hidden_dim, batch_first=True) for i in range(layers)
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            self.initial_state = nn.Linear(self.start_dim, 2 * layers * hidden_dim)

    def _add_output(self, share_output: bool, latent_output: bool) -> None:
        self.share_output = share_output
        self.to_embedding = None
        if share_output:
            if self.embedding.embedding_dim != self.hidden_dim:
                self.to_embedding = nn.Linear(self.hidden_dim, self.embedding.embedding_dim, bias=False)
            self.output_bias = nn.Parameter(torch.zeros(len(self.dictionary)))
        else:
            self.output = nn.Linear(self.hidden_dim, len(self.dictionary))
        self.register_buffer("output_mask", self._output_mask(), persistent=False)
        self.latent_output = nn.Linear(self.latent_dim, self.hidden_dim, bias=False) if latent_output else None

    def _output_mask(self) -> Tensor:
        """Added to the logits, (V,): symbols that are never outputs become impossible."""
        forbidden = [i for i, symbol in enumerate(self.dictionary.symbols) if is_filler(symbol)]
        forbidden += [self.dictionary.bos(), self.pad] + ([self.eos] if self.fixed_length else [])
        mask = torch.zeros(len(self.dictionary))
        mask[forbidden] = FORBIDDEN_LOGIT
        return mask

    def code(self, z: Tensor) -> Tensor:
        """What the decoder starts from, (R, D): z (R, Z); of z with labels (R, Z + 1), z and the label's embedding."""
        if self.label_embedding is None:
            return z.to(self.initial_state.weight.dtype)
        z, labels = parted(z)
        return torch.cat([z.to(self.initial_state.weight.dtype), self.label_embedding(labels)], dim=1)

    # -- the policy: one step for all rows --

    def start(self, z: Tensor) -> State:
        """State before the first token, for *z* (R, Z), or (R, Z + 1) with labels, see :meth:`code`."""
        z = self.code(z)
        cells = self.initial_state(z).split(self.hidden_dim, dim=1)
        return (z, self.nothing_earlier(z), *cells) if self.distances else (z, *cells)

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume *prev_tokens* (R,); features (R, H) for the next token and the new state."""
        z, *cells = state
        parts, kept = [self.embedding(prev_tokens)], []
        if self.distances:
            earlier, back = self.look_back(prev_tokens, cells.pop(0))
            parts, kept = parts + back, [earlier]
        features, cells = self.step(torch.cat(parts + ([z] if self.latent_input else []), dim=1), cells, z)
        return features, (z, *kept, *cells)

    def nothing_earlier(self, z: Tensor) -> Tensor:
        """The inputs before the first one, (R, W), for *z* (R, Z): padding, whose embedding is 0."""
        return torch.full((len(z), max(self.distances, default=0)), self.pad, device=z.device)

    def look_back(self, prev_tokens: Tensor, earlier: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The *earlier* inputs (R, W) with *prev_tokens* (R,) as the last, and for each distance embeddings (R, E)."""
        earlier = torch.cat([earlier[:, 1:], prev_tokens.unsqueeze(1)], dim=1)
        return earlier, [self.embedding(earlier[:, -distance]) for distance in self.distances]

    def looked_back(self, prev_output_tokens: Tensor) -> list[Tensor]:
        """For each distance the tokens (B, T) that are read beside *prev_output_tokens* (B, T)."""
        # An input is the token before its position: what is looked back to lies one place nearer than the distance.
        length = prev_output_tokens.size(1)
        return [F.pad(prev_output_tokens, (n - 1, 0), value=self.pad)[:, :length] for n in self.distances]

    def step(self, x: Tensor, cells: list[Tensor], z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One step of all layers: inputs (R, D) and cells h_0, c_0, ..., each (R, H), to features and new cells."""
        new = []
        for i, layer in enumerate(self.layers):
            h, c = torch.lstm_cell(
                x,
                (cells[2 * i], cells[2 * i + 1]),
                layer.weight_ih_l0,
                layer.weight_hh_l0,
                layer.bias_ih_l0,
                layer.bias_hh_l0,
            )
            new += [h, c]
            x = h + x if self.residual and i > 0 else h
        return x if self.latent_output is None else x + self.latent_output(z), new

    def logits(self, features: Tensor) -> Tensor:
        """Logits (..., V) of features (..., H)."""
        if self.share_output:
            if self.to_embedding is not None:
                features = self.to_embedding(features)
            return F.linear(features, self.embedding.weight, self.output_bias + self.output_mask)
        return F.linear(features, self.output.weight, self.output.bias + self.output_mask)

    # -- teacher forcing: one fused call a layer for all time steps --

    def read(self, prev_output_tokens: Tensor, z: Tensor, regularize: bool) -> tuple[Tensor, Tensor | None]:
        """Features (B, T, H) for each token, and what :meth:`auxiliary_logits` are made of if the decoder has such.

        *regularize* is true in training only, and words are dropped already; see :meth:`reconstruct`.
        """
        z, *initial = self.start(z)
        parts = [self.embedding(tokens) for tokens in (prev_output_tokens, *self.looked_back(prev_output_tokens))]
        if self.latent_input:
            parts.append(z.unsqueeze(1).expand(-1, prev_output_tokens.size(1), -1))
        return self.run(torch.cat(parts, dim=2), initial[1:] if self.distances else initial, z, regularize), None

    def run(self, x: Tensor, initial: list[Tensor], z: Tensor, regularize: bool) -> Tensor:
        """All steps of all layers: inputs (B, T, D) and initial cells to features (B, T, H)."""
        for i, layer in enumerate(self.layers):
            x = F.dropout(x, self.dropout, regularize)
            h, c = initial[2 * i].unsqueeze(0), initial[2 * i + 1].unsqueeze(0)
            outputs, _ = layer(x, (h.contiguous(), c.contiguous()))
            x = outputs + x if self.residual and i > 0 else outputs
        if self.latent_output is not None:
            x = x + self.latent_output(z).unsqueeze(1)
        return F.dropout(x, self.dropout, regularize)

    def reconstruct(
        self, prev_output_tokens: Tensor, z: Tensor, regularize: bool, keys: Tensor | None = None
    ) -> TeacherForced:
        """What the decoder says of each token given the previous tokens (B, T) and z (B, Z).

        Args:
            regularize: apply dropout and word dropout (in training mode); a policy gradient is taken without, since
                its sequences were sampled without
            keys: (B,), keys of the random numbers that choose the dropped words; needed with word dropout
        """
        features, unrolled = self._read(prev_output_tokens, z, regularize, keys)
        return TeacherForced(self.logits(features), None if unrolled is None else self.auxiliary_logits(unrolled))

    def auxiliary_logits(self, unrolled: Tensor) -> Tensor:
        """Logits (B, T, V) of what z alone has been made into, (B, T, D); only of a decoder whose `read` returns it."""
        return F.linear(unrolled, self.auxiliary_output.weight, self.auxiliary_output.bias + self.output_mask)

    def teacher_forced(
        self, prev_output_tokens: Tensor, z: Tensor, regularize: bool, keys: Tensor | None = None
    ) -> Tensor:
        """The logits (B, T, V) of :meth:`reconstruct`, without the auxiliary ones."""
        return self.logits(self._read(prev_output_tokens, z, regularize, keys)[0])

    def _read(
        self, prev_output_tokens: Tensor, z: Tensor, regularize: bool, keys: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """What :meth:`read` returns, after words have been dropped."""
        regularize = regularize and self.training
        if regularize and self.word_dropout > 0:
            if keys is None:
                raise ValueError("word dropout needs `keys`, from fairseq_seqvae.core.noise.row_keys.")
            drop = noise.uniforms(keys, prev_output_tokens.size(1)) < self.word_dropout
            drop[:, 0] = False  # the start symbol says nothing that could be hidden
            prev_output_tokens = prev_output_tokens.masked_fill(drop, self.unk)
        return self.read(prev_output_tokens, z, regularize)

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
        self._cache(incremental_state, state)
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
            state = tuple(cached[str(i)] for i in range(len(cached)))
            self._cache(incremental_state, select_rows(state, new_order))

    def _cache(self, incremental_state: dict[str, dict[str, Tensor | None]], state: State) -> None:
        self.set_incremental_state(incremental_state, "state", {str(i): part for i, part in enumerate(state)})

    def max_positions(self) -> int:
        """Longest sequence, EOS included."""
        return self._max_positions
