"""Metrics by name: `measure` prints all that are registered here; a new one is one new file.

A metric of the latent space is called as ``metric(posterior, ids=..., seed=...)``, one of samples as
``metric(tokens, lengths)``; both return a number.
"""

from collections.abc import Callable
from typing import Any

from fairseq_seqvae.core.registry import Registry

LATENT_METRICS: Registry[Callable[..., float]] = Registry("metric of the latent space")
SAMPLE_METRICS: Registry[Callable[..., int]] = Registry("metric of samples")


def register_latent_metric(name: str) -> Callable[[Any], Any]:
    """Decorator of a function of the posteriors of held-out sequences; takes ``ids`` and ``seed`` by keyword."""
    return LATENT_METRICS.register(name)


def register_sample_metric(name: str) -> Callable[[Any], Any]:
    """Decorator of a function of the samples' tokens (B, T) and lengths (B,)."""
    return SAMPLE_METRICS.register(name)
