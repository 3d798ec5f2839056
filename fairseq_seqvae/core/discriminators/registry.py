"""Discriminators by name.

What is registered builds a discriminator from options: a class of your own, in a file of your own, with ::

    @register_discriminator("mine")
    class MyDiscriminator(nn.Module):
        @classmethod
        def from_config(cls, options, vocab_size, padding_idx): ...
        def forward(self, tokens, padding_mask): ...   # (B, T), (B, T) True = padding -> (B,)
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from fairseq_seqvae.core.registry import Registry


def _check(name: str, thing: Any) -> None:
    if not callable(getattr(thing, "from_config", None)):
        raise ValueError(
            f"discriminator {thing.__qualname__} needs a class method from_config(cfg, vocab_size, padding_idx)."
        )


DISCRIMINATORS: Registry[Any] = Registry("discriminator", _check)


def register_discriminator(name: str) -> Callable[[Any], Any]:
    """Class decorator: make a discriminator available as *name*."""
    return DISCRIMINATORS.register(name)


def build_discriminator(name: str, options: Any, vocab_size: int, padding_idx: int) -> nn.Module:
    """Build the discriminator that is registered as *name* from the model's options."""
    return DISCRIMINATORS[name].from_config(options, vocab_size, padding_idx)
