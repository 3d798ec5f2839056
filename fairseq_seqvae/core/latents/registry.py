"""Latent families by name.

What is registered builds a family from the model's options: a class of your own, in a file of your own, with ::

    @register_latent_family("mine")
    class MyFamily:                                     # a LatentFamily, see `base`
        @classmethod
        def from_config(cls, options): ...              # options.latent_dim is Z
        def posterior(self, location, spread): ...      # (B, Z), (B, Z) -> a Posterior
        def draw(self, location, spread, noise): ...    # the same, and a draw of it: Drawn

One that extends :class:`fairseq_seqvae.core.latents.gaussian.GaussianFamily` needs the first two only.
"""

from collections.abc import Callable
from typing import Any

from fairseq_seqvae.core.registry import Registry


def _check(name: str, thing: Any) -> None:
    if not callable(getattr(thing, "from_config", None)):
        raise ValueError(f"latent family {thing.__qualname__} needs a class method from_config(options).")


LATENT_FAMILIES: Registry[Any] = Registry("latent family", _check)


def register_latent_family(name: str) -> Callable[[Any], Any]:
    """Class decorator: make a latent family available as *name*."""
    return LATENT_FAMILIES.register(name)
