"""The encoder: a summary of the tokens becomes the parameters of q(z|x)."""

from typing import Any

import torch
import torch.nn.functional as F
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoder
from torch import Tensor, nn

from fairseq_seqvae.core.conditions import joined
from fairseq_seqvae.core.latents.base import Drawn, LatentFamily, Posterior, Prior
from fairseq_seqvae.core.latents.mean_norm import MeanNorm
from fairseq_seqvae.core.latents.registry import LATENT_FAMILIES
from fairseq_seqvae.models import latent_families  # noqa: F401  (registers the built-in ones)
from fairseq_seqvae.models.registry import ENCODERS, chosen


class SeqVAEEncoder(FairseqEncoder):
    """Embeddings, a network that summarises them, and the map from the summary to q(z|x).

    Attributes:
        latent_dim: Z; 0: there is nothing to encode, and the decoder is a language model
        prior: p(z)
        noise_dim: how many standard normal numbers a draw of the posterior takes
        has_labels: whether sequences have labels, which it knows and adds to each z as its last column

    Args:
        dictionary: fairseq dictionary
        embedding: token embeddings (V, E)
        options: of the model (:class:`fairseq_seqvae.models.config.SeqVAEConfig`); ``encoder`` names the network, see
            :mod:`fairseq_seqvae.models.registry`, and ``latent_family`` what q(z|x) and p(z) are

    Raises:
        ValueError: one of the two names is unknown
    """

    def __init__(self, dictionary: Dictionary, embedding: nn.Embedding, options: Any):
        super().__init__(dictionary)
        self.embedding = embedding
        self.dropout: float = options.dropout
        self.family: LatentFamily = chosen(LATENT_FAMILIES, options.latent_family, "--latent-family").from_config(
            options
        )
        self.prior: Prior = self.family.prior
        self.latent_dim = self.prior.dim
        self.noise_dim = self.family.noise_dim
        self._max_positions: int = options.max_positions
        self.mean_norm: MeanNorm | None = None
        self.has_labels, self.label_embedding = False, None
        if not self.latent_dim:
            return
        # Checkpoints know the summary by the name of the first there was.
        self.lstm = summary = chosen(ENCODERS, options.encoder, "--encoder").from_options(
            options, embedding.embedding_dim
        )
        self._max_positions = min(self._max_positions, getattr(summary, "positions", self._max_positions))
        self.mean = nn.Linear(summary.output_dim, self.latent_dim)
        if self.family.has_spread:
            self.raw_std = nn.Linear(summary.output_dim, self.latent_dim)
        if options.mean_norm:
            self.mean_norm = MeanNorm(self.latent_dim, options.mean_norm)

    def posterior(self, src_tokens: Tensor, src_lengths: Tensor, labels: Tensor | None = None) -> Posterior:
        """q(z|x) of *src_tokens* (B, T), padded on the right, of *src_lengths* (B,) and, if it has such, *labels* (B,).

        Raises:
            ValueError: a batch of one sequence, in training, whose mean is to be normalised
        """
        return self.family.posterior(*self._outputs(src_tokens, src_lengths, labels))

    def draw(self, src_tokens: Tensor, src_lengths: Tensor, noise: Tensor, labels: Tensor | None = None) -> Drawn:
        """A draw from each :meth:`posterior` by standard normal *noise* (B, noise_dim), and the divergences."""
        drawn = self.family.draw(*self._outputs(src_tokens, src_lengths, labels), noise)
        return drawn if labels is None else drawn._replace(z=joined(drawn.z, labels))

    def _outputs(self, src_tokens: Tensor, src_lengths: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the family makes posteriors of, (B, Z) each, float32."""
        if not self.latent_dim:
            nothing = torch.empty(src_tokens.size(0), 0, device=src_tokens.device)
            return nothing, nothing
        embedded = self.embedding(src_tokens)
        if self.label_embedding is not None:
            embedded = embedded + self.label_embedding(labels).unsqueeze(1)
        embedded = F.dropout(embedded, self.dropout, self.training)
        features = self.lstm(embedded, src_lengths)
        # The distribution is kept in float32 under mixed precision: its divergence is a difference of near numbers.
        location = self.mean(features).float()
        if self.mean_norm is not None:
            location = self.mean_norm(location)
        return location, self.raw_std(features).float() if self.family.has_spread else None

    def forward(
        self,
        src_tokens: Tensor,
        src_lengths: Tensor,
        z: Tensor | None = None,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> dict[str, list[Tensor]]:
        """What the decoder needs, in the form that fairseq's generators reorder: ``{"z": [z (B, Z)]}``.

        Args:
            src_tokens: (B, T), padded on the right
            src_lengths: (B,)
            z: (B, Z), taken as given; None: the mean of the posterior
            labels: (B,), of the sources, where sequences have labels
            condition: (B,), labels of what is made of z; None: those of the sources
        """
        if z is None:
            z = self.posterior(src_tokens, src_lengths, labels).mean
        wanted = labels if condition is None else condition
        if self.has_labels and wanted is not None:
            z = joined(z, wanted)
        return {"z": [z]}

    def reorder_encoder_out(self, encoder_out: dict[str, list[Tensor]], new_order: Tensor) -> dict[str, list[Tensor]]:
        """Select rows for beam search."""
        return {"z": [z.index_select(0, new_order) for z in encoder_out["z"]]}

    def max_positions(self) -> int:
        """Longest input, EOS included."""
        return self._max_positions
