"""Likelihood of held-out sequences.

The likelihood of a latent-variable model is an integral over z. It is bounded from below by importance sampling from
q(z|x) (Burda, Grosse, Salakhutdinov 2016, "Importance weighted autoencoders"), the tighter the more samples.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core.categorical import rows_per_block
from fairseq_seqvae.core.elbo import negative_elbo
from fairseq_seqvae.core.latents.base import Posterior
from fairseq_seqvae.core.noise import Draws, Stream, normal
from fairseq_seqvae.core.rollouts.policy import Policy

_ROWS_AT_A_TIME = 4096  # rows of decoder states; of logits there are as many as `rows_per_block` says


class HeldOut(NamedTuple):
    """Lower bounds of the log-likelihood log p_tau(x) of held-out sequences, nats per sequence, float64.

    Attributes:
        bound: (B, S), importance-weighted, for each of S temperatures
        elbo: (B, S), reconstruction less divergence, from the same draws of z
        kl: (B,), divergence of q(z|x) from the prior
    """

    bound: Tensor
    elbo: Tensor
    kl: Tensor


@torch.no_grad()
def sequence_log_probs(
    policy: Policy, z: Tensor, tokens: Tensor, lengths: Tensor, temperatures: Sequence[float] = (1.0,)
) -> Tensor:
    """log p_tau(x|z) of each row at each temperature, (R, S), nats, float64: sum over its tokens.

    The logits of a token are computed once for all temperatures, in blocks of rows: memory grows with R, not with V.

    Args:
        policy: see :class:`Policy`
        z: (R, Z)
        tokens: (R, T), padded on the right
        lengths: (R,), EOS included where sequences end with one
        temperatures: tau; p_tau has the probabilities softmax(logits / tau)
    """
    total = torch.zeros(len(tokens), len(temperatures), dtype=torch.float64, device=tokens.device)
    prev, state, block = torch.full_like(lengths, policy.eos), policy.start(z), 64
    rows = torch.arange(len(tokens), device=tokens.device)
    for t, target in enumerate(tokens[:, : max(lengths.tolist(), default=0)].unbind(dim=1)):
        features, state = policy.advance(prev, state)
        for some in rows[lengths > t].split(block):
            logits = policy.logits(features[some])
            block = rows_per_block(logits.device, logits.size(1))
            total[some] += _token_log_probs(logits, target[some], temperatures).double()
        prev = target
    return total


def _token_log_probs(logits: Tensor, targets: Tensor, temperatures: Sequence[float]) -> Tensor:
    """Log-probabilities (R, S) of *targets* (R,) under softmax(logits (R, V) / tau), float32."""
    logits = logits.float()
    logits = logits - logits.amax(dim=1, keepdim=True)
    chosen = logits.gather(1, targets.unsqueeze(1))
    scaled = torch.empty_like(logits)
    columns = []
    for temperature in temperatures:
        # On a CPU 2^x costs half of e^x.
        torch.mul(logits, 1.0 / (temperature * math.log(2.0)), out=scaled).exp2_()
        columns.append(chosen / temperature - scaled.sum(dim=1, keepdim=True).log())
    return torch.cat(columns, dim=1)


@torch.no_grad()
def held_out(
    policy: Policy,
    posterior: Posterior,
    tokens: Tensor,
    lengths: Tensor,
    *,
    ids: Tensor,
    seed: int,
    num_samples: int,
    temperatures: Sequence[float] = (1.0,),
) -> HeldOut:
    """Bounds of log p_tau(x), with p_tau(x) the mean over z ~ p(z) of the product of softmax(logits / tau)[x_t].

    With a latent space of size 0 there is nothing to integrate: one sample is taken and the bound is exact.

    Args:
        policy: the decoder
        posterior: q(z|x) of each sequence, the proposal, (B, Z)
        tokens: (B, T), padded on the right
        lengths: (B,), EOS included where sequences end with one
        ids: (B,), numbers of the sequences: the draws of z are a function of *seed* and of these alone
        num_samples: draws of z per sequence
        temperatures: S values of tau; the same draws serve all
    """
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1 but is {num_samples}.")
    if not temperatures or not all(tau > 0 for tau in temperatures):
        raise ValueError(f"`temperatures` must be positive, and at least one, but are {list(temperatures)}.")
    num_samples = num_samples if posterior.mean.size(1) else 1
    bounds, elbos = [], []
    kl = posterior.kl().sum(dim=1).double()
    draws = Draws(seed)
    for some in torch.arange(len(tokens), device=tokens.device).split(max(1, _ROWS_AT_A_TIME // num_samples)):
        rows = some.repeat_interleave(num_samples)
        numbers = torch.arange(num_samples, device=rows.device).repeat(len(some))
        noise = normal(draws.keys(Stream.IMPORTANCE, ids[rows], numbers), posterior.noise_dim)
        proposal = posterior.rows(rows)
        log_probs = sequence_log_probs(policy, proposal.sample(noise), tokens[rows], lengths[rows], temperatures)
        log_probs = log_probs.view(len(some), num_samples, -1)
        weights = log_probs + proposal.log_importance(noise).view(len(some), num_samples, 1)
        bounds.append(weights.logsumexp(dim=1) - math.log(num_samples))
        elbos.append(-negative_elbo(log_probs.mean(dim=1), kl[some].unsqueeze(1)))
    return HeldOut(torch.cat(bounds), torch.cat(elbos), kl)
