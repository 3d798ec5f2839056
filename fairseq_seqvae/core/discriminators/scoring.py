"""How completed prefixes are scored: by the network as it is, or by tables where it has them and they pay."""

from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae.core import sequences
from fairseq_seqvae.core.rollouts.policy import Completions

SCORINGS = ("auto", "plain", "tables")


def check_scoring(discriminator: Any, scoring: str) -> bool:
    """Whether *discriminator* has tables; ValueError if *scoring* is unknown, or ``tables`` without any."""
    if scoring not in SCORINGS:
        raise ValueError(f"`scoring` must be one of {', '.join(SCORINGS)} but is {scoring!r}.")
    has_tables = hasattr(discriminator, "logits_by_tables")
    if scoring == "tables" and not has_tables:
        raise ValueError(f"{type(discriminator).__name__} cannot score by tables: `scoring` must be auto or plain.")
    return has_tables


@torch.no_grad()
def completion_logits(discriminator: Any, completions: Completions, prefixes: Tensor, scoring: str = "auto") -> Tensor:
    """Logits (R,) of *completions*; without dropout only if the discriminator is in evaluation mode.

    Args:
        discriminator: one that can score by tables has the methods ``tables_pay(num_tokens)`` and
            ``logits_by_tables(completions, prefixes)``
        completions: see :func:`rollout.complete_prefixes`
        prefixes: (B, P), the sequences whose prefixes were completed
        scoring: ``plain``: the discriminator's forward pass; ``tables``; ``auto``: whichever is faster

    Raises:
        ValueError: see :func:`check_scoring`
    """
    has_tables = check_scoring(discriminator, scoring)
    if scoring == "tables" or (
        scoring == "auto" and has_tables and discriminator.tables_pay(completions.tokens.numel())
    ):
        return discriminator.logits_by_tables(completions, prefixes)
    mask = sequences.padding_mask(completions.lengths, completions.tokens.size(1))
    # Enough rows for a fast product, few enough for the cache of a CPU and for memory.
    num_tokens = 1 << (13 if mask.device.type == "cpu" else 19)
    rows = max(1, num_tokens // mask.size(1))
    blocks = zip(completions.tokens.split(rows), mask.split(rows), strict=True)
    return torch.cat([discriminator(tokens, block_mask) for tokens, block_mask in blocks])
