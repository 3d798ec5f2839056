"""REINVENT: the log-probability of a sequence is drawn to that of the reference plus what its score is worth.

Olivecrona et al. 2017, "Molecular de-novo design through deep reinforcement learning".
"""

from torch import Tensor


def reinvent_loss(log_probs: Tensor, reference: Tensor, scores: Tensor, sigma: float) -> Tensor:
    """(log p_ref(y) + sigma * score(y) - log p(y))^2, (B,), for whole sequences; nats squared.

    At its minimum p is proportional to p_ref * exp(sigma * score) but for the normalisation: the policy that has the
    largest mean score minus its divergence from the reference over sigma.

    Args:
        log_probs: (B, T), of the tokens under the policy, with gradient, 0 at padding
        reference: (B, T), the same under the reference
        scores: (B,), of whole sequences
        sigma: nats that a score of 1 is worth
    """
    augmented = reference.detach().float().sum(dim=1) + sigma * scores.detach().float()
    return (augmented - log_probs.float().sum(dim=1)).square()
