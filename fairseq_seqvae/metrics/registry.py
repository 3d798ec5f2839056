"""Metrics by name: `measure` prints all that are registered here; a new one is one new file.

A metric of the latent space is called as ``metric(posterior, ids=..., seed=...)``, one of reconstructions as
``metric(reconstruction)`` with a :class:`fairseq_seqvae.metrics.reconstruction.Reconstruction`, one of samples as
``metric(tokens, lengths)``. All return a number; one of the first two kinds may return None where it does not apply.
"""

from collections.abc import Callable
from typing import Any

from fairseq_seqvae.core.registry import Registry

LATENT_METRICS: Registry[Callable[..., float | None]] = Registry("metric of the latent space")
RECONSTRUCTION_METRICS: Registry[Callable[..., float | None]] = Registry("metric of reconstructions")
SAMPLE_METRICS: Registry[Callable[..., int]] = Registry("metric of samples")


def register_latent_metric(name: str) -> Callable[[Any], Any]:
    """Decorator of a function of the posteriors of held-out sequences; takes ``ids`` and ``seed`` by keyword."""
    return LATENT_METRICS.register(name)


def register_reconstruction_metric(name: str) -> Callable[[Any], Any]:
    """Decorator of a function of a :class:`fairseq_seqvae.metrics.reconstruction.Reconstruction`."""
    return RECONSTRUCTION_METRICS.register(name)


def register_sample_metric(name: str) -> Callable[[Any], Any]:
    """Decorator of a function of the samples' tokens (B, T) and lengths (B,)."""
    return SAMPLE_METRICS.register(name)
