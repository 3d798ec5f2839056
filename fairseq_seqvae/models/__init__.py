"""The model ``seqvae`` and its presets ``seqvae_oracle``, ``seqvae_melody``, ``seqvae_text``."""

from fairseq_seqvae import compat

compat.require_fairseq()

from fairseq_seqvae.models.seqvae import SeqVAEModel  # noqa: E402

__all__ = ["SeqVAEModel"]
