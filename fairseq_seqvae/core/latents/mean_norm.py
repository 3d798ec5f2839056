"""Batch normalisation of the posterior's mean (Zhu et al. 2020, "A batch normalized inference network keeps the KL
vanishing away")."""

import torch
from torch import Tensor, nn

from fairseq_seqvae.core.latents.exact_buffers import ExactBuffers

# Added to variances, in float64. It must be small against any variance that training can reach: the divergence that
# the normalisation promises shrinks as soon as it is not.
_EPSILON = 1e-16
_MOMENTUM = 0.1  # share of the newest batch in the running statistics


class MeanNorm(ExactBuffers):
    """Normalises each dimension over the batch, to the standard deviation *scale* around a learned shift.

    For a Gaussian posterior and the prior N(0, I) the mean divergence of a batch is therefore at least
    Z scale^2 / 2 nats. In evaluation, running statistics take the place of the batch's.

    Training normalises each batch by itself, in each process. What a batch has seen enters the running statistics at
    the end of the update, batch after batch in the order that one process would see them. So N processes train like
    one with N batches per update, bit for bit. Statistics stay in float32 in a model of half precision.

    Args:
        dim: Z
        scale: standard deviation of each dimension of the mean, frozen
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(self, dim: int, scale: float):
        super().__init__()
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        # How many batches the statistics have seen; a moving average of parameters may average it too.
        self.register_buffer("batches", torch.zeros(1))
        self._pending: list[Tensor] = []  # (2 Z + 1,) of each batch of this update: mean, variance, whether it counts

    def forward(self, location: Tensor) -> Tensor:
        """Normalised *location* (B, Z), float32.

        Raises:
            ValueError: a batch of one sequence in training
        """
        exact = location.double()
        if self.training:
            if len(exact) < 2:
                raise ValueError(
                    "the posterior's mean cannot be normalised over a batch of 1 sequence: train with batches of at "
                    "least 2, also the last one of an epoch, or encode in evaluation mode, which needs no batch."
                )
            mean, var = exact.mean(dim=0), exact.var(dim=0, unbiased=False)
            unbiased = var * (len(exact) / (len(exact) - 1))
            if self.shift.grad is None:  # the first batch of an update: what waits is of one that was given up
                self._pending = []
            self._pending.append(torch.cat([mean, unbiased, torch.ones_like(mean[:1])]).detach())
        else:
            mean, var = self.running_mean.double(), self.running_var.double()
        return (self.scale * (exact - mean) / (var + _EPSILON).sqrt() + self.shift.double()).float()

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
                kept.copy_(torch.lerp(kept.double(), new, share))
            self.batches.add_(counts.to(self.batches.dtype))
