"""The model ``seqvae`` and its presets ``seqvae_oracle``, ``seqvae_melody``, ``seqvae_text``."""

from fairseq_seqvae.models.seqvae import SeqVAEModel

__all__ = ["SeqVAEModel"]
