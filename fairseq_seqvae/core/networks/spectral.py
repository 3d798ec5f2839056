"""Weights divided by their largest singular value, so that no layer lengthens what it maps."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fairseq_seqvae.core.networks.exact_buffers import ExactBuffers

_FIRST_ITERATIONS = 30


class SpectralNorm(ExactBuffers):
    """A parametrisation of a weight: the weight over its largest singular value (Miyato et al. 2018).

    The singular vectors are found by power iteration, one step per update in which the weight was trained, at its end.
    So the value of the weight depends neither on how often an update uses it nor on the number of processes, and
    checkpoints hold all it depends on. The vectors stay in float32 in a model of half precision.

    Args:
        weight: (N, ...), seen as a matrix of N rows
    """

    left: Tensor
    right: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        matrix = weight.detach().flatten(1).float()
        self.register_buffer("left", nn.functional.normalize(torch.randn(matrix.size(0)), dim=0).to(matrix))
        self.register_buffer("right", torch.zeros(matrix.size(1)).to(matrix))
        self._trained: Tensor | None = None
        for _ in range(_FIRST_ITERATIONS):
            self._iterate(matrix)

    def forward(self, weight: Tensor) -> Tensor:
        """*weight* over the product of the vectors with it, which has gradient."""
        if self.training:
            self._trained = weight.detach()
        matrix = weight.flatten(1).float()
        largest = torch.dot(self.left, torch.mv(matrix, self.right))
        return (weight.float() / largest).to(weight.dtype)

    def end_update(self) -> None:
        """One step of power iteration, if the weight was used in training since the last one."""
        if self._trained is not None:
            self._iterate(self._trained.flatten(1).float())
            self._trained = None

    def forget_batch(self) -> None:
        """A batch that does not count changes nothing: all processes make the step."""

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> None:
        self.right.copy_(nn.functional.normalize(torch.mv(matrix.t(), self.left), dim=0))
        self.left.copy_(nn.functional.normalize(torch.mv(matrix, self.right), dim=0))


def normalise_spectrally(module: nn.Module) -> None:
    """Parametrise the weights of all linear maps and convolutions inside *module*; embeddings stay as they are."""
    for layer in list(module.modules()):
        if isinstance(layer, (nn.Linear, nn.Conv1d)):
            norm = SpectralNorm(layer.weight)
            parametrize.register_parametrization(layer, "weight", norm)
            norm._trained = None  # torch has tried it out
