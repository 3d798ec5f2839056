"""What a discriminator is given besides the tokens: ``--disc-inputs``."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from fairseq import checkpoint_utils
from torch import Tensor, nn

from fairseq_seqvae import options
from fairseq_seqvae.core.discriminators.informed import InformedDiscriminator
from fairseq_seqvae.core.discriminators.likelihood import TokenLikelihood
from fairseq_seqvae.core.discriminators.ngrams import NgramCounts
from fairseq_seqvae.inference.hub import refuse_other_tasks
from fairseq_seqvae.models.config import disc_inputs
from fairseq_seqvae.models.lagging import frozen_copy


def informed(build_reader: Callable[[], nn.Module], cfg: Any, task: Any, decoder: Any, prior: Any) -> nn.Module:
    """The discriminator of a training with its inputs.

    Args:
        build_reader: makes the discriminator of the tokens
        cfg: options of the model
        task: has the training data
        decoder: the model's
        prior: its p(z)

    Raises:
        ValueError: the language model of ``disc_lm`` is none, or the sequences have labels
    """
    given = disc_inputs(getattr(cfg, "disc_inputs", "tokens"))
    if given == ["tokens"]:
        return build_reader()
    if getattr(task, "labels", None) is not None:
        raise ValueError(f"--disc-inputs {cfg.disc_inputs} knows no labels: omit it, or --labels {task.cfg.labels}.")
    features: list[nn.Module] = []
    if "ngrams" in given:
        features.append(NgramCounts(_training_data(task), cfg.disc_ngrams))
    if "likelihood" in given:
        features.append(_likelihood(cfg, task, decoder, prior))
    reader = build_reader() if "tokens" in given else None
    return InformedDiscriminator(reader, features, dropout=cfg.disc_dropout)


def _training_data(task: Any) -> Iterator[Tensor]:
    """The sequences as batches have them: without EOS where all have a fixed length."""
    for tokens in task.training_sequences():
        yield tokens[:-1] if task.fixed_length else tokens


def _likelihood(cfg: Any, task: Any, decoder: Any, prior: Any) -> TokenLikelihood:
    if not cfg.disc_lm:
        centre = prior.sample(torch.zeros(1, prior.noise_dim)).squeeze(0)
        return TokenLikelihood(frozen_copy(decoder), centre, of_start=True)
    try:
        refuse_other_tasks(cfg.disc_lm)
        models, _, _ = checkpoint_utils.load_model_ensemble_and_task(
            [cfg.disc_lm], arg_overrides={"data": task.cfg.data}
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{options.flag('disc_lm')} {cfg.disc_lm}: {error}") from error
    if models[0].prior.dim:
        raise ValueError(
            f"{options.flag('disc_lm')} {cfg.disc_lm} is no language model: its likelihood is exact with --latent-dim "
            "0 only."
        )
    return TokenLikelihood(models[0].decoder, torch.zeros(0))
