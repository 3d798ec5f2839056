"""Discriminators: tokens and their padding mask -> one logit a sequence, a high one says "real".

A discriminator of one's own needs a class with ``from_config`` and this line above it::

    @register_discriminator("mine")
    class MyDiscriminator(nn.Module):
        @classmethod
        def from_config(cls, cfg, vocab_size, padding_idx): ...
        def forward(self, tokens, padding_mask): ...   # (B, T), (B, T) True = padding -> (B,)

in a file that ``--disc-module FILE`` names; ``--discriminator mine`` then chooses it. In training, real and fake
sequences come in one batch. A faster way to score completed prefixes is optional, see
:func:`fairseq_seqvae.discriminators.scoring.completion_logits`.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from torch import nn

_REGISTRY: dict[str, Any] = {}


def register_discriminator(name: str):
    """Class decorator: make a discriminator available as ``--discriminator`` *name*."""

    def register(cls):
        known = _REGISTRY.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"a discriminator named {name!r} is registered already ({known.__module__}.{known.__qualname__}): "
                "choose another name."
            )
        if not callable(getattr(cls, "from_config", None)):
            raise ValueError(
                f"discriminator {cls.__qualname__} needs a class method from_config(cfg, vocab_size, padding_idx)."
            )
        _REGISTRY[name] = cls
        return cls

    return register


def build_discriminator(name: str, cfg: Any, vocab_size: int, padding_idx: int) -> nn.Module:
    """Build the discriminator that is registered as *name* from its options *cfg*."""
    if name not in _REGISTRY:
        raise ValueError(
            f"unknown discriminator {name!r}: choose one of {', '.join(sorted(_REGISTRY))}, or name the file that "
            "registers it with --disc-module."
        )
    return _REGISTRY[name].from_config(cfg, vocab_size, padding_idx)


def import_discriminator_module(path: str) -> None:
    """Import the Python file *path*, which registers discriminators; a second time it does nothing."""
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"--disc-module {path!r}: there is no such file.")
    name = f"fairseq_seqvae_user_{file.stem}_{abs(hash(str(file)))}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"--disc-module {path!r} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"--disc-module {path!r} cannot be imported ({type(error).__name__}: {error}).") from error


from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator  # noqa: E402
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator  # noqa: E402

__all__ = [
    "ConvolutionalDiscriminator",
    "RecurrentDiscriminator",
    "build_discriminator",
    "import_discriminator_module",
    "register_discriminator",
]
