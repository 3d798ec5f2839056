"""What is true of an oracle with a latent, summed up over sequences."""

from typing import Any

import torch

from fairseq_seqvae.oracle.model import estimate
from fairseq_seqvae.oracle.quadrature import Truth


def summarise(truth: Truth, length: int) -> dict[str, Any]:
    """Means over the sequences, with standard errors.

    Of the oracle's own samples ``nll_per_sequence`` estimates the entropy and ``mutual_information`` I(x; z): it is the
    mean of KL(p(z|x) || p(z)), which has no chance of z in it. Both in nats per sequence; ``nll`` is per token.
    """
    nll, information = estimate(-truth.log_likelihood), estimate(truth.divergence)
    axes = torch.linalg.eigvalsh(truth.covariance).clamp(min=0).sqrt().mean(dim=0)
    return {
        "sequences": len(truth.divergence),
        "length": length,
        "nll": nll.mean / length,
        "nll_standard_error": nll.standard_error / length,
        "nll_per_sequence": nll.mean,
        "nll_per_sequence_standard_error": nll.standard_error,
        "mutual_information": information.mean,
        "mutual_information_standard_error": information.standard_error,
        "posterior_std": axes.tolist(),
        "evaluations": float(truth.evaluations.double().mean()),
        "largest_change": float(truth.change.max()),
    }
