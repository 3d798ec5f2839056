"""A bidirectional LSTM over sequences of different lengths, and a summary of them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POOLINGS = ("last", "mean", "max")


def reverse_sequences(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the first *lengths* (B,) steps of each row of *x* (B, T, D); padding stays where it is."""
    steps = torch.arange(x.size(1), device=x.device)
    mirrored = lengths.unsqueeze(1) - 1 - steps
    index = torch.where(mirrored >= 0, mirrored, steps)
    return x.gather(1, index.unsqueeze(2).expand_as(x))


class BidirectionalLSTM(nn.Module):
    """Stack of bidirectional LSTM layers.

    Each direction of each layer is one fused ``nn.LSTM``. The backward one reads rows reversed up to their length,
    so that no packing (which needs the lengths on the host) is needed, and padding never reaches a state.

    Args:
        input_dim: size of the inputs
        hidden_dim: size of each direction
        layers: number of layers
        dropout: probability, on the inputs of every layer but the first
        residual: add the inputs of each layer but the first to its outputs
    """

    def __init__(self, input_dim: int, hidden_dim: int, layers: int = 1, dropout: float = 0.0, residual: bool = False):
        super().__init__()
        self.dropout = dropout
        self.residual = residual
        sizes = [input_dim] + [2 * hidden_dim] * (layers - 1)
        self.forward_layers = nn.ModuleList(nn.LSTM(size, hidden_dim, batch_first=True) for size in sizes)
        self.backward_layers = nn.ModuleList(nn.LSTM(size, hidden_dim, batch_first=True) for size in sizes)
        self.output_dim = 2 * hidden_dim

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run over *x* (B, T, D) of *lengths* (B,).

        Returns:
            outputs (B, T, 2H), 0 at padding, and the last state of both directions of the top layer (B, 2H).
        """
        inside = (torch.arange(x.size(1), device=x.device) < lengths.unsqueeze(1)).unsqueeze(2)
        for i, (ahead, back) in enumerate(zip(self.forward_layers, self.backward_layers, strict=True)):
            if i > 0:
                x = F.dropout(x, self.dropout, self.training)
            outputs_ahead, _ = ahead(x)
            outputs_back, _ = back(reverse_sequences(x, lengths))
            outputs_back = reverse_sequences(outputs_back, lengths)
            outputs = torch.cat([outputs_ahead, outputs_back], dim=2)
            x = (outputs + x if self.residual and i > 0 else outputs) * inside
        half = self.output_dim // 2
        last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, half)
        final = torch.cat([x[:, :, :half].gather(1, last).squeeze(1), x[:, 0, half:]], dim=1)
        return x, final


class RecurrentSummary(BidirectionalLSTM):
    """Sequences to one vector each: the last states of a bidirectional LSTM, or a pool of its outputs.

    Args:
        input_dim: size of the inputs
        hidden_dim: size of each direction
        layers: number of layers
        dropout: see :class:`BidirectionalLSTM`
        residual: see :class:`BidirectionalLSTM`
        pooling: ``last``: the last forward and the last backward state; ``mean`` or ``max``: see :func:`pool`
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        layers: int = 1,
        dropout: float = 0.0,
        residual: bool = False,
        pooling: str = "last",
    ):
        super().__init__(input_dim, hidden_dim, layers, dropout, residual)
        self.pooling = pooling

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        """Features (B, 2H) of *x* (B, T, D) of *lengths* (B,)."""
        outputs, final = super().forward(x, lengths)
        return final if self.pooling == "last" else pool(outputs, lengths, self.pooling)


def pool(outputs: Tensor, lengths: Tensor, kind: str) -> Tensor:
    """Mean or maximum over the first *lengths* (B,) steps of *outputs* (B, T, D): (B, D).

    Long, Cao, Cheung 2019, "On posterior collapse and encoder feature dispersion in sequence VAEs": with pooled states
    the features of different sequences lie further apart than the last states do.

    Args:
        outputs: (B, T, D)
        lengths: (B,), at least 1
        kind: ``mean`` or ``max``
    """
    inside = (torch.arange(outputs.size(1), device=outputs.device) < lengths.unsqueeze(1)).unsqueeze(2)
    if kind == "mean":
        return (outputs * inside).sum(dim=1) / lengths.unsqueeze(1).to(outputs.dtype)
    if kind == "max":
        return outputs.masked_fill(~inside, torch.finfo(outputs.dtype).min).amax(dim=1)
    raise ValueError(f"`kind` must be 'mean' or 'max' but is {kind!r}.")
