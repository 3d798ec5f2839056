"""The address that extension files import from; the room is :mod:`fairseq_seqvae.core.discriminators`."""

from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.registry import build_discriminator, register_discriminator
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator

__all__ = ["ConvolutionalDiscriminator", "RecurrentDiscriminator", "build_discriminator", "register_discriminator"]
