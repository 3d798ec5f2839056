"""What other models say of a sequence: a language model, or two of them as a classifier."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae.metrics.likelihood import sequence_log_probs
from fairseq_seqvae.rewards.registry import Rule, Run, register_reward

Scorer = Callable[[list[list[int]], list[bool]], Tensor]


@register_reward("likelihood")
def likelihood(argument: str, run: Run) -> Rule:
    """Mean log-likelihood of the symbols of a sample under a language model, nats per symbol, end included.

    Args:
        argument: checkpoint of ``--latent-dim 0``
    """
    if not argument:
        raise ValueError("give a checkpoint of a language model (--latent-dim 0): likelihood:CHECKPOINT.")
    score = language_model(argument, run)

    def rule(samples: list[str], tokens: list[list[int]], ended: list[bool], **kwargs: Any) -> list[float]:
        lengths = torch.tensor([max(len(row) + end, 1) for row, end in zip(tokens, ended, strict=True)])
        return (score(tokens, ended) / lengths).tolist()

    return rule


@register_reward("classifier")
def classifier(argument: str, run: Run) -> Rule:
    """Probability that a sample is of the first of two kinds, which are as frequent, by a language model of each.

    Args:
        argument: two checkpoints of ``--latent-dim 0``, separated by a colon
    """
    first, _, second = argument.partition(":")
    if not first or not second:
        raise ValueError(
            "give two checkpoints of language models (--latent-dim 0), of what is wanted and of what is not: "
            "classifier:WANTED:OTHER."
        )
    wanted, other = language_model(first, run), language_model(second, run)

    def rule(samples: list[str], tokens: list[list[int]], ended: list[bool], **kwargs: Any) -> list[float]:
        return torch.sigmoid(wanted(tokens, ended) - other(tokens, ended)).tolist()

    return rule


def language_model(path: str, run: Run) -> Scorer:
    """A function of token lists, and of whether each has its end, that gives log-likelihoods (R,), nats, float64.

    Raises:
        ValueError: *path* is no checkpoint of a language model of this package with the dictionary of the run
    """
    from fairseq import checkpoint_utils

    from fairseq_seqvae.inference.hub import refuse_other_tasks

    try:
        refuse_other_tasks(path)
    except OSError as error:
        raise ValueError(f"there is no checkpoint {path}.") from error
    models, _, _ = checkpoint_utils.load_model_ensemble_and_task([path], arg_overrides={"data": run.data})
    model = models[0].eval().requires_grad_(False)
    if model.prior.dim:
        raise ValueError(f"{path} is no language model: its likelihood is exact with --latent-dim 0 only.")
    policy = model.decoder

    def score(tokens: list[list[int]], ended: list[bool]) -> Tensor:
        rows = [[*row, policy.eos] if end else row for row, end in zip(tokens, ended, strict=True)]
        lengths = torch.tensor([len(row) for row in rows])
        padded = torch.full((len(rows), max(map(len, rows), default=0)), policy.pad)
        for row, given in zip(padded, rows, strict=True):
            row[: len(given)] = torch.tensor(given, dtype=torch.long)
        return sequence_log_probs(policy, torch.zeros(len(rows), 0), padded, lengths)[:, 0]

    return score
