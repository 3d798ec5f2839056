"""Sampling from a step function, and Monte Carlo completion of prefixes.

A policy is anything that can start from a latent vector, advance by one token, and turn the features of a step into
logits. Rows are independent. All rows advance together, finished rows leave the batch, and no prefix is ever run
twice: the completions of a prefix start from the state that the policy has after it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fairseq_seqvae.core import sequences
from fairseq_seqvae.core.policy_gradient.returns import reward_positions
from fairseq_seqvae.core.rollouts.completion import complete_prefixes
from fairseq_seqvae.core.rollouts.policy import Completions, Policy


@torch.no_grad()
def prefix_values(
    policy: Policy,
    score: Callable[[Tensor, Tensor], Tensor],
    tokens: Tensor,
    lengths: Tensor,
    z: Tensor,
    *,
    num_rollouts: int,
    stride: int,
    max_len: int,
    keys_fn: Callable[[Tensor, Tensor], Tensor],
    eos: int,
    pad: int,
    chunk_rows: int = 2048,
    score_completions: Callable[[Completions], Tensor] | None = None,
) -> Tensor:
    """Value of each rewarded prefix: the mean score of its completions, (B, T), float32, 0 elsewhere.

    At the last position of a sequence stands the score of the sequence itself. Rewarded positions are those of
    :func:`policy_gradient.reward_positions`. Other arguments: :func:`complete_prefixes`.

    Args:
        score: (tokens (R, T), padding_mask (R, T)) -> (R,)
        score_completions: the same scores of completions (R,), where that is faster than *score*
    """
    values = torch.zeros(tokens.shape, device=tokens.device)
    for chunk in complete_prefixes(
        policy,
        tokens,
        lengths,
        z,
        num_rollouts=num_rollouts,
        stride=stride,
        max_len=max_len,
        keys_fn=keys_fn,
        eos=eos,
        pad=pad,
        chunk_rows=chunk_rows,
    ):
        if score_completions is None:
            scores = score(chunk.tokens, sequences.padding_mask(chunk.lengths, max_len))
        else:
            scores = score_completions(chunk)
        values.index_put_((chunk.rows, chunk.prefix_lengths - 1), scores.float() / num_rollouts, accumulate=True)
    whole = score(tokens, sequences.padding_mask(lengths, tokens.size(1))).float()
    values.scatter_(1, (lengths - 1).unsqueeze(1), whole.unsqueeze(1))
    return values.masked_fill(~reward_positions(lengths, tokens.size(1), stride), 0.0)
