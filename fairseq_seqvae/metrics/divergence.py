"""How far a policy is from a reference, exactly: a sum over the vocabulary at each token."""

import torch
from torch import Tensor

from fairseq_seqvae.core.categorical import check_temperature, rows_per_block
from fairseq_seqvae.core.policy_gradient.reference import token_divergence
from fairseq_seqvae.core.rollouts.policy import Policy


@torch.no_grad()
def sequence_divergence(
    policy: Policy, reference: Policy, z: Tensor, tokens: Tensor, lengths: Tensor, temperature: float = 1.0
) -> Tensor:
    """Sum over the tokens of KL(policy || reference) of the next token, (R,), nats, float64.

    Its mean over sequences that the policy has drawn, z from the prior, estimates the divergence of pairs of z and
    sequence, without bias and with less spread than log-ratios have. That of the sequences alone is at most as large.

    Args:
        policy: see :class:`Policy`
        reference: another one of the same vocabulary, at temperature 1
        z: (R, Z), for both
        tokens: (R, T), padded on the right
        lengths: (R,), EOS included where sequences end with one
        temperature: tau of the policy, whose probabilities are softmax(logits / tau)
    """
    check_temperature(temperature)
    total = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
    prev = torch.full_like(lengths, policy.eos)
    state, its_state = policy.start(z), reference.start(z)
    rows, block = torch.arange(len(tokens), device=tokens.device), 64
    for t in range(max(lengths.tolist(), default=0)):
        features, state = policy.advance(prev, state)
        its_features, its_state = reference.advance(prev, its_state)
        for some in rows[lengths > t].split(block):
            logits = policy.logits(features[some])
            block = rows_per_block(logits.device, logits.size(1))
            one_step = (logits / temperature).unsqueeze(1), reference.logits(its_features[some]).unsqueeze(1)
            nothing_padded = torch.zeros(len(some), 1, dtype=torch.bool, device=tokens.device)
            total[some] += token_divergence(*one_step, nothing_padded)[:, 0].double()
        prev = tokens[:, t]
    return total
