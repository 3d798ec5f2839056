"""A learned critic: what a sequence will earn, predicted from each of its prefixes.

Konda, Tsitsiklis 1999, "Actor-critic algorithms". The critic regresses on the rewards of whole sequences, so its
prediction at a prefix is the mean reward of the sequences that begin so, which completions need many samples for. As a
baseline it leaves the gradient unbiased; as the value of prefixes it puts its own errors in the place of noise.
"""

import torch
from torch import Tensor

from fairseq_seqvae.core.policy_gradient.reinforce import absorb_end, token_returns
from fairseq_seqvae.core.sequences import shape_error


def critic_loss(predicted: Tensor, scores: Tensor, padding_mask: Tensor) -> Tensor:
    """Half the squared error of the predictions, (B,), a mean over the positions of each sequence.

    Args:
        predicted: (B, T), at index t before token t, with gradient
        scores: (B,), of whole sequences
        padding_mask: (B, T), True = padding
    """
    if padding_mask.shape != predicted.shape:
        raise shape_error("padding_mask", padding_mask, "predicted", predicted.shape)
    errors = (predicted.float() - scores.float().unsqueeze(1)).square().masked_fill(padding_mask, 0.0)
    return errors.sum(dim=1) / (~padding_mask).sum(dim=1).clamp(min=1) / 2


def prefix_predictions(predicted: Tensor, scores: Tensor, positions: Tensor, lengths: Tensor) -> Tensor:
    """Values of prefixes by the critic, (B, T), 0 outside *positions*: that of y_1..i is its prediction before y_(i+1).

    Args:
        predicted: (B, T), at index t before token t
        scores: (B,), of whole sequences, which stand at their ends
        positions: (B, T) bool, where values are wanted
        lengths: (B,)
    """
    after = torch.cat([predicted.detach().float()[:, 1:], predicted.new_zeros(len(predicted), 1).float()], dim=1)
    values = after.scatter(1, (lengths - 1).unsqueeze(1), scores.float().unsqueeze(1))
    return values.masked_fill(~positions, 0.0)


def expected_returns(predicted: Tensor, positions: Tensor, padding_mask: Tensor, credit: str, stride: int) -> Tensor:
    """The critic's prediction of the return of each token, (B, T), 0 at padding.

    Args:
        predicted: (B, T), of the final reward, at index t before token t
        positions: (B, T) bool, rewarded positions
        padding_mask: (B, T), True = padding
        credit: ``step``: a return is one reward; ``to-go``: as many as there are from the token on
        stride: of the rewarded positions; a sequence that has ended keeps earning
    """
    result = predicted.detach().float()
    if credit == "to-go":
        lengths = (~padding_mask).sum(dim=1)
        ones, there = absorb_end(positions.float(), positions, lengths, stride)
        result = result * token_returns(ones, there, padding_mask, credit)
    return result.masked_fill(padding_mask, 0.0)


def explained(predicted: Tensor, scores: Tensor, padding_mask: Tensor) -> dict[str, Tensor]:
    """Sums over all positions, to be added up, of which :func:`explained_variance` makes one number.

    Args:
        predicted: (B, T), at index t before token t
        scores: (B,), of whole sequences
        padding_mask: (B, T), True = padding
    """
    target = scores.double().unsqueeze(1).expand(predicted.shape)[~padding_mask]
    error = target - predicted.detach().double()[~padding_mask]
    return {
        "critic_places": target.new_tensor(float(target.numel())),
        "critic_targets": target.sum(),
        "critic_target_squares": target.square().sum(),
        "critic_errors": error.sum(),
        "critic_error_squares": error.square().sum(),
    }


def explained_variance(places: float, targets: float, target_squares: float, errors: float, squares: float) -> float:
    """1 - Var(error) / Var(target), from the sums of :func:`explained`; 0 where all targets are the same."""
    spread = target_squares / places - (targets / places) ** 2
    residual = squares / places - (errors / places) ** 2
    return 1 - residual / spread if spread > 1e-12 else 0.0
