"""Encoders and decoders by name: ``--encoder`` and ``--decoder``. A file of ``--module`` may register more.

An encoder is registered as a class with ``from_options(options, input_dim)``: of the model's options and the size E of
the embeddings it makes a module ``(x (B, T, E), lengths (B,)) -> (B, D)`` with the attribute ``output_dim`` (D) and, if
it knows a longest sequence, ``positions``.

A decoder is registered as a class with ``from_options(options, dictionary, embedding)``; it extends
:class:`fairseq_seqvae.models.decoders.recurrent.SeqVAEDecoder`.
"""

from collections.abc import Callable
from typing import Any

from fairseq_seqvae.core.registry import Registry


def _check(name: str, thing: Any) -> None:
    if not callable(getattr(thing, "from_options", None)):
        raise ValueError(f"{thing.__qualname__} needs a class method from_options, see {__name__}.")


ENCODERS: Registry[Any] = Registry("encoder", _check)
DECODERS: Registry[Any] = Registry("decoder", _check)


def register_encoder(name: str) -> Callable[[Any], Any]:
    """Class decorator: make an encoder available as *name*."""
    return ENCODERS.register(name)


def register_decoder(name: str) -> Callable[[Any], Any]:
    """Class decorator: make a decoder available as *name*."""
    return DECODERS.register(name)


def chosen(registry: Registry[Any], name: str, flag: str) -> Any:
    """What *registry* has as *name*.

    Raises:
        ValueError: it has nothing of that name; the message names the *flag*
    """
    if name not in registry:
        raise ValueError(
            f"unknown {flag} {name!r}: choose one of {', '.join(sorted(registry))}, or import the file that registers "
            "it (in training by --module)."
        )
    return registry[name]
