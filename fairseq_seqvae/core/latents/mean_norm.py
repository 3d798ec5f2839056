"""Batch normalisation of the posterior's mean (Zhu et al. 2020, "A batch normalized inference network keeps the KL
vanishing away")."""

from torch import Tensor

from fairseq_seqvae.core.networks.batch_moments import BatchMoments

# Added to variances, in float64. It must be small against any variance that training can reach: the divergence that
# the normalisation promises shrinks as soon as it is not.
_EPSILON = 1e-16


class MeanNorm(BatchMoments):
    """Normalises each dimension over the batch, to the standard deviation *scale* around a learned shift.

    For a Gaussian posterior and the prior N(0, I) the mean divergence of a batch is therefore at least
    Z scale^2 / 2 nats. In evaluation, running statistics take the place of the batch's.

    Args:
        dim: Z
        scale: standard deviation of each dimension of the mean, frozen
    """

    def __init__(self, dim: int, scale: float):
        super().__init__(dim)
        self.scale = scale

    def forward(self, location: Tensor) -> Tensor:
        """Normalised *location* (B, Z), float32.

        Raises:
            ValueError: a batch of one sequence in training
        """
        exact = location.double()
        if self.takes_batch(self.training):
            if len(exact) < 2:
                raise ValueError(
                    "the posterior's mean cannot be normalised over a batch of 1 sequence: train with batches of at "
                    "least 2, also the last one of an epoch, or encode in evaluation mode, which needs no batch."
                )
            mean, var = exact.mean(dim=0), exact.var(dim=0, unbiased=False)
            self.remember(mean, var * (len(exact) / (len(exact) - 1)))
        else:
            mean, var = self.running_mean.double(), self.running_var.double()
        return (self.scale * (exact - mean) / (var + _EPSILON).sqrt() + self.shift.double()).float()
