"""Batch normalisation whose running statistics are exact on resume and the same in any number of processes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_seqvae.core.networks.exact_buffers import ExactBuffers

_MOMENTUM = 0.1  # share of the newest batch in the running statistics


class BatchMoments(ExactBuffers):
    """Running mean and variance of what batches have shown in training.

    Training normalises each batch by itself, in each process. What a batch has seen enters the running statistics at
    the end of the update, batch after batch in the order that one process would see them. So N processes train like
    one with N batches per update, bit for bit. Statistics stay in float32 in a model of half precision.

    Args:
        dim: D, size of what is normalised

    Attributes:
        frozen: training normalises by the running statistics, too, and they stay as they are. Few sequences, or ones
            unlike those of the first training, have moments that the layers behind have never seen
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        # How many batches the statistics have seen; a moving average of parameters may average it too.
        self.register_buffer("batches", torch.zeros(1))
        self.frozen = False
        self._pending: list[Tensor] = []  # (2 D + 1,) of each batch of this update: mean, variance, whether it counts

    def takes_batch(self, asked: bool) -> bool:
        """Whether a batch is normalised by itself, where that is *asked*.

        Raises:
            ValueError: the statistics are frozen before they have seen a batch
        """
        if asked and self.frozen and not bool(self.batches):
            raise ValueError(
                "the batch normalisation is frozen, but its statistics have seen no batch yet: begin from a trained "
                "checkpoint, or do not freeze it."
            )
        return asked and not self.frozen

    def remember(self, mean: Tensor, unbiased_var: Tensor) -> None:
        """Keep the moments (D,) of a batch until the end of the update."""
        if self.shift.grad is None:  # the first batch of an update: what waits is of one that was given up
            self._pending = []
        self._pending.append(torch.cat([mean, unbiased_var, torch.ones_like(mean[:1])]).detach())

    def forget_batch(self) -> None:
        """The last batch does not count: it only fills the place of one that this process lacks."""
        if self._pending:
            self._pending[-1][-1] = 0.0

    @torch.no_grad()
    def end_update(self) -> None:
        """Take the batches of this update, of all processes, into the running statistics."""
        if not self._pending:
            return
        moments = torch.stack(self._pending).unsqueeze(0)
        self._pending = []
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered = [torch.empty_like(moments) for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather(gathered, moments)
            moments = torch.cat(gathered)
        # One process would see the first batches of all processes, then the second ones.
        for batch in moments.transpose(0, 1).flatten(0, 1):
            mean, var, counts = batch.split([len(self.shift), len(self.shift), 1])
            share = counts * (1 / (self.batches.double() + 1)).clamp(min=_MOMENTUM)  # a plain mean of the first ones
            for kept, new in ((self.running_mean, mean), (self.running_var, var)):
                kept.copy_(torch.lerp(kept.double(), new.double(), share))
            self.batches.add_(counts.to(self.batches.dtype))


class ChannelNorm(BatchMoments):
    """Batch normalisation of the channels of (B, C, T), over batch and time (Ioffe, Szegedy 2015).

    Args:
        channels: C
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, by_batch: bool) -> Tensor:
        """Normalised *x* (B, C, T).

        Args:
            by_batch: in training, use the moments of this batch and remember them; else the running ones
        """
        exact = x.to(self.running_mean.dtype)  # that of statistics in a model of half precision
        scale, shift = self.scale.to(exact.dtype), self.shift.to(exact.dtype)
        if self.takes_batch(by_batch):
            self._remember_moments(exact.detach())
            return F.batch_norm(exact, None, None, scale, shift, training=True).to(x.dtype)
        return F.batch_norm(exact, self.running_mean, self.running_var, scale, shift).to(x.dtype)

    def _remember_moments(self, x: Tensor) -> None:
        if x.size(0) * x.size(2) < 2:
            raise ValueError(
                "the convolutions cannot be normalised over a batch of 1 position: train with longer sequences or "
                "larger batches."
            )
        var, mean = torch.var_mean(x, dim=(0, 2))
        self.remember(mean, var)
