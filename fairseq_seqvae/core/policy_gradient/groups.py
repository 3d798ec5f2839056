"""Groups: several sequences of one z, which are compared with each other.

Rows of a group stand together: row ``b * size + g`` is member g of group b. What the members have in common, above all
how good their z is, cancels: the baseline knows the z, which that of a batch does not (RLOO: Kool, van Hoof, Welling
2019, "Buy 4 REINFORCE samples, get a baseline for free"; Ahmadian et al. 2024).
"""

import torch
from torch import Tensor

# Spread, as a share of the largest number, below which numbers are equal but for rounding.
ROUNDING = 1e-6


def in_groups(values: Tensor, size: int) -> Tensor:
    """(B / size, size, ...) of *values* (B, ...).

    Raises:
        ValueError: B is no multiple of *size*
    """
    if size < 1 or values.size(0) % size:
        raise ValueError(f"`size` must divide the number of rows, {values.size(0)}, but is {size}.")
    return values.unflatten(0, (-1, size))


def leave_one_out(returns: Tensor, size: int) -> Tensor:
    """Returns (B, T) minus the mean of the other members of the group at the same position, (B, T).

    The baseline does not depend on the row's own tokens, so the gradient stays unbiased. A member that has ended counts
    with what it earned, so *returns* must be known at all positions: :func:`.reinforce.returns_beyond_end`.

    Args:
        returns: (B, T)
        size: members of a group, at least 2
    """
    if size < 2:
        raise ValueError(f"`size` must be at least 2 but is {size}: a row alone has no others to be compared with.")
    grouped = in_groups(returns.float(), size)
    others = (grouped.sum(dim=1, keepdim=True) - grouped) / (size - 1)
    return (grouped - others).flatten(0, 1)


def scaled_by_group(advantages: Tensor, returns: Tensor, padding_mask: Tensor, size: int) -> Tensor:
    """Advantages (B, T) divided by their root mean square within each group; 0 in a group without spread.

    Args:
        advantages: (B, T), 0 at padding
        returns: (B, T), that they were made of; they tell spread from rounding
        padding_mask: (B, T), True = padding
        size: members of a group
    """
    alive = in_groups(~padding_mask, size).flatten(1)
    grouped = in_groups(advantages.float(), size).flatten(1)
    root_mean_square = (grouped.square().sum(dim=1) / alive.sum(dim=1).clamp(min=1)).sqrt()
    largest = in_groups(returns.float().masked_fill(padding_mask, 0.0), size).flatten(1).abs().amax(dim=1)
    meaningful = (root_mean_square > ROUNDING * largest).unsqueeze(1)
    scaled = torch.where(meaningful, grouped / root_mean_square.unsqueeze(1), torch.zeros_like(grouped))
    return scaled.view_as(advantages)


def count_without_spread(scores: Tensor, size: int) -> Tensor:
    """Number of groups, a scalar tensor, whose members all have the same score: they teach nothing.

    Args:
        scores: (B,), of whole sequences
        size: members of a group
    """
    grouped = in_groups(scores.float(), size)
    spread = grouped.amax(dim=1) - grouped.amin(dim=1)
    return (spread <= ROUNDING * grouped.abs().amax(dim=1)).sum()
