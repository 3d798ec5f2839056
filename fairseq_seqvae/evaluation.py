"""What is measured of a trained model: likelihood of held-out sequences, use of the latent space, variety of samples.

The likelihood of a latent-variable model is an integral over z. It is bounded from below by importance sampling from
q(z|x) (Burda, Grosse, Salakhutdinov 2016, "Importance weighted autoencoders"), the tighter the more samples.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae import noise
from fairseq_seqvae.latent import DiagonalGaussian
from fairseq_seqvae.noise import Stream
from fairseq_seqvae.rollout import Policy, rows_per_block
from fairseq_seqvae.sequences import padding_mask

_ROWS_AT_A_TIME = 4096  # rows of decoder states; of logits there are as many as `rows_per_block` says


class HeldOut(NamedTuple):
    """Lower bounds of the log-likelihood log p_tau(x) of held-out sequences, nats a sequence, float64.

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
    policy: Policy, z: Tensor, tokens: Tensor, lengths: Tensor, eos: int, temperatures: Sequence[float] = (1.0,)
) -> Tensor:
    """log p_tau(x|z) of each row at each temperature, (R, S), nats, float64: sum over its tokens.

    The logits of a token are computed once for all temperatures, in blocks of rows: memory grows with R, not with V.

    Args:
        policy: first input is *eos*
        z: (R, Z)
        tokens: (R, T), padded on the right
        lengths: (R,), EOS included where sequences end with one
        temperatures: tau; p_tau has the probabilities softmax(logits / tau)
    """
    total = torch.zeros(len(tokens), len(temperatures), dtype=torch.float64, device=tokens.device)
    prev, state, block = torch.full_like(lengths, eos), policy.start(z), 64
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
    posterior: DiagonalGaussian,
    tokens: Tensor,
    lengths: Tensor,
    *,
    ids: Tensor,
    seed: int,
    num_samples: int,
    eos: int,
    temperatures: Sequence[float] = (1.0,),
) -> HeldOut:
    """Bounds of log p_tau(x), with p_tau(x) the mean over z ~ N(0, I) of the product of softmax(logits / tau)[x_t].

    With a latent space of size 0 there is nothing to integrate: one sample is taken and the bound is exact.

    Args:
        policy: the decoder
        posterior: q(z|x) of each sequence, the proposal, (B, Z)
        tokens: (B, T), padded on the right
        lengths: (B,), EOS included where sequences end with one
        ids: (B,), numbers of the sequences: the draws of z are a function of *seed* and of these alone
        num_samples: draws of z a sequence
        temperatures: S values of tau; the same draws serve all
    """
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1 but is {num_samples}.")
    if not temperatures or not all(tau > 0 for tau in temperatures):
        raise ValueError(f"`temperatures` must be positive, and at least one, but are {list(temperatures)}.")
    latent_dim = posterior.mean.size(1)
    num_samples = num_samples if latent_dim else 1
    bounds, elbos = [], []
    kl = posterior.kl().sum(dim=1).double()
    for some in torch.arange(len(tokens), device=tokens.device).split(max(1, _ROWS_AT_A_TIME // num_samples)):
        rows = some.repeat_interleave(num_samples)
        numbers = torch.arange(num_samples, device=rows.device).repeat(len(some))
        draws = noise.normal(noise.row_keys(seed, 0, Stream.IMPORTANCE, ids[rows], numbers), latent_dim)
        mean, std = posterior.mean[rows], posterior.std[rows]
        z = DiagonalGaussian(mean, std).sample(draws)
        log_probs = sequence_log_probs(policy, z, tokens[rows], lengths[rows], eos, temperatures)
        log_probs = log_probs.view(len(some), num_samples, -1)
        # log N(z; 0, I) - log q(z|x): the constants of both densities cancel.
        log_ratio = (0.5 * (draws.double().square() - z.double().square()) + std.double().log()).sum(dim=1)
        weights = log_probs + log_ratio.view(len(some), num_samples, 1)
        bounds.append(weights.logsumexp(dim=1) - math.log(num_samples))
        elbos.append(log_probs.mean(dim=1) - kl[some].unsqueeze(1))
    return HeldOut(torch.cat(bounds), torch.cat(elbos), kl)


@torch.no_grad()
def mutual_information(posterior: DiagonalGaussian, *, ids: Tensor, seed: int, num_samples: int = 4) -> float:
    """I_q(x; z) = E_x KL(q(z|x) || q(z)), nats, q(z) being the mean of q(z|x) over these B sequences.

    Hoffman, Johnson 2016, "ELBO surgery"; estimated by draws of z as in He et al. 2019, "Lagging inference networks".
    It cannot exceed log B. It is the KL less the divergence of q(z) from the prior, and so small in two cases: the
    latent is unused, or every x has the same q.

    Args:
        posterior: q(z|x), (B, Z)
        ids: (B,), numbers of the sequences, for the noise
        num_samples: draws of z a sequence
    """
    mean, std = posterior.mean.double(), posterior.std.double()
    num_rows, latent_dim = mean.shape
    if latent_dim == 0:
        return 0.0
    precision = std.reciprocal().square()
    constant = -0.5 * (mean.square() * precision).sum(dim=1) - std.log().sum(dim=1)
    total = 0.0
    for number in range(num_samples):
        keys = noise.row_keys(seed, 0, Stream.MUTUAL_INFORMATION, ids, number)
        z = posterior.sample(noise.normal(keys, latent_dim)).double()
        for some in torch.arange(num_rows, device=z.device).split(_ROWS_AT_A_TIME // 4):
            # log q(z_i | x_n) up to a constant that all share, (I, N), by products of matrices
            log_q = constant + z[some] @ (mean * precision).T - 0.5 * z[some].square() @ precision.T
            own = log_q.gather(1, some.unsqueeze(1)).squeeze(1)
            total += float((own - log_q.logsumexp(dim=1) + math.log(num_rows)).sum())
    return total / (num_rows * num_samples)


def active_units(posterior: DiagonalGaussian, threshold: float = 0.01) -> int:
    """Number of latent dimensions whose posterior mean varies over x by more than *threshold* (Burda et al. 2016)."""
    if len(posterior.mean) < 2:
        raise ValueError("active units are those whose means vary between sequences: give at least two.")
    deviations = posterior.mean.double() - posterior.mean.double().mean(dim=0)
    return int((deviations.square().sum(dim=0) / (len(deviations) - 1) > threshold).sum())


def distinct_ngrams(tokens: Tensor, lengths: Tensor, n: int) -> tuple[int, int]:
    """How many different n-grams there are inside the sequences, and how many in all.

    Args:
        tokens: (B, T), padded on the right
        lengths: (B,), EOS included where sequences end with one
    """
    if n < 1:
        raise ValueError(f"`n` must be at least 1 but is {n}.")
    if n > tokens.size(1):
        return 0, 0
    windows = tokens.unfold(1, n, 1)
    inside = ~padding_mask(lengths - n + 1, windows.size(1))
    found = windows[inside]
    return len(found.unique(dim=0)), len(found)


def distinct_sequences(tokens: Tensor, lengths: Tensor) -> int:
    """How many different sequences there are among the rows of *tokens* (B, T), padding aside."""
    tokens = tokens.masked_fill(padding_mask(lengths, tokens.size(1)), -1)
    return len(tokens.unique(dim=0))
