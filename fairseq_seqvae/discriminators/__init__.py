"""The address that extension files import from; the room is :mod:`fairseq_seqvae.core.discriminators`."""

from fairseq_seqvae.core.discriminators import (
    ConvolutionalDiscriminator,
    RecurrentDiscriminator,
    build_discriminator,
    register_discriminator,
)

__all__ = ["ConvolutionalDiscriminator", "RecurrentDiscriminator", "build_discriminator", "register_discriminator"]
