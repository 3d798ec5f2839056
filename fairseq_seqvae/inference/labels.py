"""Labels in the Python interface: names from a user, numbers for a model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae.core.conditions import joined
from fairseq_seqvae.core.noise import Draws, Stream

# One label for all sequences, or one for each.
Labels = str | Sequence[str] | None


def numbers_of(interface: Any, labels: Labels, count: int, argument: str) -> Tensor | None:
    """The numbers (B,) of *count* labels; None if none are given.

    Args:
        interface: a :class:`fairseq_seqvae.inference.hub.SeqVAEHubInterface`
        labels: names
        count: B
        argument: name of the argument, for messages

    Raises:
        ValueError: the model knows no labels, or not these, or there are not *count* of them
    """
    if labels is None:
        return None
    known = interface.task.labels
    if known is None:
        raise ValueError(f"`{argument}` needs a model that was trained with --labels, which this one was not: omit it.")
    names = [labels] * count if isinstance(labels, str) else list(labels)
    if len(names) != count:
        raise ValueError(f"`{argument}` must be one label, or one for each of {count}, but has {len(names)}.")
    found = [known.number(str(name), f"`{argument}`") for name in names]
    return torch.tensor(found, dtype=torch.long, device=interface.device)


def labels_of_texts(interface: Any, labels: Labels, condition: Labels, count: int) -> Tensor | None:
    """The numbers (B,) of the labels of *count* texts: *labels*, or else those that are asked for; None without labels.

    Raises:
        ValueError: the model knows labels, and none are given; see also :func:`numbers_of`
    """
    if labels is not None:
        return numbers_of(interface, labels, count, "labels")
    if condition is None and interface.task.labels is not None:
        known = ", ".join(interface.task.labels.names[:20])
        raise ValueError(f"`labels` of the texts are missing: the model knows {known}.")
    return numbers_of(interface, condition, count, "condition")


def code_of(interface: Any, z: Tensor, condition: Labels, seed: int | None) -> Tensor:
    """What a decoder starts from: z (B, Z), and where the model knows labels a label as the last column, (B, Z + 1).

    Args:
        condition: the labels; None: labels as frequent as in the training data
        seed: of these
    """
    labels = numbers_of(interface, condition, len(z), "condition")
    conditions = interface.model.conditions
    if conditions is None:
        return z
    if labels is None:
        ids = torch.arange(len(z), device=z.device)
        labels = conditions.draw(Draws(1 if seed is None else seed), ids, Stream.GENERATION_CONDITION)
    return joined(z, labels)
