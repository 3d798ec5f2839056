"""Convolutions of several widths over the embedded tokens, maximum over time, highway (SeqGAN, Yu et al. 2017)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_seqvae.core.discriminators.tables import completion_features
from fairseq_seqvae.core.rollouts.policy import Completions

# Numbers in a table of tokens x places x filters: 1 GiB of float32.
_LARGEST_TABLE = 1 << 28
# Rows that go through the highway at a time: the products are fast, the intermediate results stay in the cache.
_HIGHWAY_ROWS = 1024


class Highway(nn.Module):
    """y = t * relu(W x) + (1 - t) * x with the gate t = sigmoid(V x) (Srivastava et al. 2015).

    Args:
        dim: D
        tied: V is W, as in several implementations of SeqGAN: half of the products, most of what a score costs
    """

    def __init__(self, dim: int, tied: bool = False):
        super().__init__()
        self.transform = nn.Linear(dim, dim)
        self.gate = None
        if not tied:
            self.gate = nn.Linear(dim, dim)
            # A gate that is mostly closed at first lets the convolutions learn before the highway does.
            nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        transformed = self.transform(x)
        gate = transformed if self.gate is None else self.gate(x)
        return torch.lerp(x, F.relu(transformed), torch.sigmoid(gate))


class ConvolutionalDiscriminator(nn.Module):
    """Convolutional discriminator.

    Windows lie inside the sequence; where it is shorter than a width, the one window at its start is filled up with
    zero vectors. So the logit does not depend on how far a batch is padded.

    Args:
        vocab_size: V
        padding_idx: token whose embedding is zero
        embed_dim: size of the embeddings
        widths: widths of the windows, in tokens
        features: number of features of each width
        highway_layers: number of highway layers
        tied_highway: see :class:`Highway`
        dropout: probability, before the output layer
    """

    def __init__(
        self,
        vocab_size: int,
        padding_idx: int,
        embed_dim: int,
        widths: list[int],
        features: list[int],
        highway_layers: int = 1,
        tied_highway: bool = False,
        dropout: float = 0.25,
    ):
        super().__init__()
        if len(widths) != len(features) or not widths or min(widths) < 1 or min(features) < 1:
            raise ValueError(
                f"`widths` {widths} and `features` {features} must be lists of equal length, of positive numbers: "
                "one number of features a width."
            )
        self.padding_idx = padding_idx
        self.widths = list(widths)
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(embed_dim, count, width) for width, count in zip(widths, features, strict=True)
        )
        self.highway = nn.Sequential(*(Highway(sum(features), tied_highway) for _ in range(highway_layers)))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(sum(features), 1)

    def forward(self, tokens: Tensor, padding_mask: Tensor) -> Tensor:
        """Logits (B,) of *tokens* (B, T); *padding_mask* (B, T), True = padding."""
        tokens = tokens.masked_fill(padding_mask, self.padding_idx)
        missing = max(0, max(self.widths) - tokens.size(1))
        embedded = self.embedding(F.pad(tokens, (0, missing), value=self.padding_idx))
        return self.judge_embedded(embedded, padding_mask)

    def judge_embedded(self, embedded: Tensor, padding_mask: Tensor) -> Tensor:
        """Logits (B,) of embedded sequences (B, T, E), zero vectors at padding; see :meth:`forward`."""
        lengths = (~padding_mask).sum(dim=1)
        missing = max(self.widths) - embedded.size(1)
        if missing > 0:
            embedded = F.pad(embedded, (0, 0, 0, missing))
        # A GPU is not asked, since the host would have to wait for the answer.
        same_length = embedded.device.type == "cpu" and bool((lengths == embedded.size(1)).all())
        pooled = []
        for kernel, bias in self._filters():
            # One product over copies of the windows is faster than conv1d, above all backwards.
            windows = embedded.unfold(1, kernel.size(2), 1).flatten(2)  # (B, S, E * width)
            responses = F.linear(windows, kernel.flatten(1), bias)  # (B, S, F)
            if not same_length:
                starts = torch.arange(responses.size(1), device=embedded.device)
                outside = starts > (lengths - kernel.size(2)).clamp(min=0).unsqueeze(1)
                responses = responses.masked_fill(outside.unsqueeze(2), float("-inf"))
            # relu and maximum commute: pooling first leaves less to rectify.
            pooled.append(responses.amax(dim=1).relu())
        return self._judge(torch.cat(pooled, dim=1))

    def _judge(self, features: Tensor) -> Tensor:
        return self.output(self.dropout(self.highway(features))).squeeze(1)

    def _filters(self) -> list[tuple[Tensor, Tensor]]:
        """Kernel (F, E, w) and bias (F,) of each width."""
        # Not `get_parameter`: a weight that is normalised spectrally is computed from one.
        layers = [layer for layer in self.convolutions if isinstance(layer, nn.Conv1d)]
        return [(layer.weight, layer.get_parameter("bias")) for layer in layers]

    # -- scoring completed prefixes, see fairseq_seqvae.discriminators.scoring --

    def tables_pay(self, num_tokens: int) -> bool:
        """Whether tables are faster than convolutions over *num_tokens* tokens, and small enough."""
        weight = self.embedding.weight
        fast = weight.device.type == "cpu" and weight.dtype == torch.float32
        largest = weight.size(0) * max(kernel.size(2) * bias.numel() for kernel, bias in self._filters())
        # Measured: a table costs three convolutions over the vocabulary, and many small look-ups their overhead.
        return fast and num_tokens > 3 * weight.size(0) + 5000 and largest <= _LARGEST_TABLE

    @torch.no_grad()
    def logits_by_tables(self, completions: Completions, prefixes: Tensor) -> Tensor:
        """Logits (R,) of *completions* of prefixes of *prefixes* (B, P), as :meth:`forward` gives them."""
        features = completion_features(self.embedding.weight, self.padding_idx, self._filters(), completions, prefixes)
        return torch.cat([self._judge(rows) for rows in features.split(_HIGHWAY_ROWS)])
