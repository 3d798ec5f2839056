"""The labels that a model knows, and the embeddings by which encoder and decoder know them."""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from fairseq_seqvae.core.conditions import draw_labels, joined, with_label
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.models.dictionaries import dictionary_digest, is_filler


def label_folder(options: Any) -> str | None:
    """``labels`` of the options of a model; None also for those that know no such option, as in earlier checkpoints."""
    try:
        name = getattr(options, "labels", None)
    except OmegaConfBaseException:  # refers to an option of the task that is not there
        return None
    return None if name is None or str(name).startswith("${") else str(name)


def embedding_size(options: Any) -> int:
    """How many numbers stand beside z for the label; 0: there are no labels."""
    return options.label_dim if label_folder(options) else 0


def label_names(dictionary: Any) -> list[str]:
    """The labels in a dictionary of fairseq, in the order of their numbers, with symbols that only fill it up."""
    return list(dictionary.symbols[dictionary.nspecial :])


class Conditions(nn.Module):
    """The labels of a model, and how often its training data has each of them.

    Args:
        dictionary: of the labels
        counts: (L,) int64, of each label in the training data
        vocab_size: V, of the sequences: a discriminator reads label l as the token V + l
    """

    def __init__(self, dictionary: Any, counts: Tensor, vocab_size: int):
        super().__init__()
        self.names = label_names(dictionary)
        self.vocab_size = vocab_size
        # "version" in their names keeps fairseq's moving average of parameters away from these integers.
        self.register_buffer("counts_version", counts.clone())
        self.register_buffer("names_version", torch.tensor(dictionary_digest(dictionary)))

    @property
    def known_names(self) -> list[str]:
        """The labels without symbols that only fill the dictionary up."""
        return [name for name in self.names if not is_filler(name)]

    def embed(self, encoder: Any, decoder: Any) -> None:
        """Give encoder and decoder an embedding of each label."""
        encoder.has_labels = True
        if encoder.latent_dim:
            encoder.label_embedding = nn.Embedding(len(self.names), encoder.embedding.embedding_dim)
        decoder.label_embedding = nn.Embedding(len(self.names), decoder.label_dim)

    def draw(self, draws: Draws, ids: Tensor, stream: Stream = Stream.CONDITION) -> Tensor:
        """A label for each of *ids* (B,), as frequent as in the training data, (B,)."""
        return draw_labels(self.get_buffer("counts_version"), draws.uniforms(stream, ids, 0, 1).squeeze(1))

    def joined(self, z: Tensor, draws: Draws, ids: Tensor) -> Tensor:
        """z (B, Z) with the labels that :meth:`draw` gives, (B, Z + 1)."""
        return joined(z, self.draw(draws, ids))

    def tokens(self, labels: Tensor) -> Tensor:
        """The tokens that stand for *labels* before a discriminator, of the same shape."""
        return labels + self.vocab_size

    def seen(self, tokens: Tensor, padding_mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and mask (B, T) as a discriminator sees them, (B, T + 1); *labels* (B,)."""
        return with_label(tokens, padding_mask, self.tokens(labels))


def check_labels(state: Mapping[str, Any], prefix: str, conditions: Conditions | None) -> None:
    """Refuse a checkpoint that knows other labels than the model, or labels where the other has none.

    Args:
        state: parameters and buffers of the checkpoint
        prefix: with which their names begin
        conditions: of the model

    Raises:
        ValueError: they differ
    """
    has_labels = f"{prefix}decoder.label_embedding.weight" in state
    if not has_labels and conditions is not None:
        raise ValueError(
            "--labels: the checkpoint was trained without labels, so no label can be added to it: train a new model, "
            "in another --save-dir."
        )
    if has_labels and conditions is None:
        raise ValueError("the checkpoint was trained with labels: give the same --labels as in its training.")
    known = state.get(f"{prefix}conditions.names_version")  # which fairseq's moving average does not know
    if known is not None and conditions is not None and int(known) != int(conditions.get_buffer("names_version")):
        raise ValueError(
            "--labels: the checkpoint was trained with other labels, or with these in another order: use the dict.txt "
            "of labels that the model was trained with (fairseq-preprocess --srcdict)."
        )
