"""Judgements of the discriminator on held-out sentences between updates: `--disc-gate`, `--disc-keep-best`."""

import logging
from typing import Any

from fairseq_seqvae.core.noise import Draws
from fairseq_seqvae.core.schedules.turns import DISCRIMINATOR
from fairseq_seqvae.support.processes import is_master

logger = logging.getLogger(__name__)


def judge_if_due(task: Any, model: Any, criterion: Any, optimizer: Any, update_num: int) -> dict[str, float]:
    """Let the criterion judge the discriminator before an update, if a judgement is due then; its accuracies.

    Args:
        task: gives the held-out sentences and knows whose turn each update is
        optimizer: fairseq's; in half precision it has float32 copies of the parameters
        update_num: number of the update that is about to be made, counted from 0
    """
    plan, judgements = task.plan, criterion.judgements
    if model.discriminator is None or not plan.discriminator_has_moved(update_num):
        return {}
    if not judgements.is_due(update_num, plan.adversarial_from, criterion.last_judgement):
        return {}
    draws = Draws(task.cfg.seed, update_num)
    sample = task.held_out_sample(criterion.cfg.disc_gate_sentences, draws)
    verdict = criterion.judge_held_out(model, sample, update_num)
    if verdict.given_up is not None:
        _restore_copies(optimizer)
    if is_master():
        logger.info(_sentence(verdict, update_num, len(sample["target"]), criterion.cfg.disc_gate))
    return {"d_acc_real": verdict.of_real, "d_acc_fake": verdict.of_fake}


def _restore_copies(optimizer: Any) -> None:
    """In half precision fairseq steps float32 copies of the parameters: those of the discriminator take its values."""
    copies, originals = getattr(optimizer, "fp32_params", None), getattr(optimizer, "fp16_params", None)
    if isinstance(copies, list) and originals is not None and len(copies) == len(originals):
        for copy, original in zip(copies, originals, strict=True):
            if getattr(original, "part", None) == DISCRIMINATOR:
                copy.data.copy_(original.data)


def _sentence(verdict: Any, update_num: int, number: int, gate: float) -> str:
    said = (
        f"after update {update_num}: the discriminator tells {verdict.accuracy:.1%} of {number} held-out sentences and "
        "as many fresh samples correctly"
    )
    if verdict.given_up is not None:
        said += f", as it was at an earlier judgement; as it is now {verdict.given_up:.1%}, so it goes back"
    if gate:
        is_used = "is used" if verdict.is_used else "is not used"
        changed = "" if verdict.is_used == verdict.was_used else " from now on"
        said += f"; its reward {is_used}{changed} (--disc-gate {gate:g})"
    return said
