"""What a task has to know, or to set, of the configuration of the whole run, of which it is handed its own node."""

import logging
import os

from fairseq_seqvae.compat.launch import is_master

logger = logging.getLogger(__name__)


def _whole_run(task_cfg):
    """The configuration that *task_cfg* is a node of; None if it is of none."""
    return task_cfg._get_root() if hasattr(task_cfg, "_get_root") else None


def refuse_lone_process(task_cfg) -> None:
    """Stop a process of torchrun that would train alone; *task_cfg* is the task's node of the whole configuration.

    Without a GPU fairseq takes 1 for the number of processes unless it is told, and each process would then write its
    own training into the one folder of checkpoints.

    Raises:
        ValueError: if torchrun has started several processes, and fairseq knows of one
    """
    root = _whole_run(task_cfg)
    started = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    if root is None or "distributed_training" not in root or started == 1:
        return
    if root.distributed_training.distributed_world_size == 1:
        raise ValueError(
            f"{started} processes were started, but fairseq takes this one for the only one, and all would write to "
            f"the same --save-dir: add --distributed-world-size {started}."
        )


def uses_gpu(common) -> bool:
    """Whether a run with these common options is one on GPUs."""
    import torch

    return torch.cuda.is_available() and not common.cpu


def prepare_for_two_players(task_cfg) -> None:
    """Set what the whole run needs so that an update can move one player alone; *task_cfg* is the task's node of it.

    With `--fp16` and `--bf16` fairseq merges the gradients of all parameters into one, whose momentum and decay then
    move the resting player too: they are kept apart. Sharded parameters cannot be told apart at all. `--amp` without a
    GPU, which fairseq accepts and all but ignores, is taken back with a warning.

    Raises:
        ValueError: with `--ddp-backend fully_sharded`
    """
    root = _whole_run(task_cfg)
    if root is None or "common" not in root:
        return
    root.common.fp16_no_flatten_grads = True
    if root.common.amp and not uses_gpu(root.common):
        if is_master():
            logger.warning("--amp does nothing without a GPU: this run is in float32 (--bf16 works on a CPU)")
        root.common.amp = False  # fairseq would look for the scale of a scaler that is not at work
    if "distributed_training" in root and root.distributed_training.ddp_backend == "fully_sharded":
        raise ValueError(
            "--ddp-backend fully_sharded is not supported: it merges the parameters of generator and discriminator, "
            "which take turns; use pytorch_ddp or legacy_ddp."
        )


def refuse_no_updates(task_cfg) -> None:
    """Stop a run whose updates are of no batch, which fairseq ends somewhere in its arithmetic.

    Raises:
        ValueError: if a number of --update-freq is below 1
    """
    root = _whole_run(task_cfg)
    if root is not None and "optimization" in root and min(root.optimization.update_freq, default=1) < 1:
        raise ValueError(
            f"--update-freq must be at least 1 but is {','.join(map(str, root.optimization.update_freq))}: it is the "
            "number of batches of one update."
        )


def refuse_missing_groups(task_cfg, players: tuple[str, ...]) -> None:
    """Stop where fairseq's `composite` optimizer, which has one for each player, has none for one of *players*.

    Raises:
        ValueError: if so, as always on a command line, where its groups cannot be given
    """
    root = _whole_run(task_cfg)
    optimizer = getattr(root, "optimizer", None)
    if getattr(optimizer, "_name", None) != "composite":
        return
    missing = [player for player in players if player not in optimizer.groups]
    if missing:
        raise ValueError(
            f"--optimizer composite has no group {' and no group '.join(missing)}: give an optimizer and an "
            f"lr_scheduler under optimizer.groups.{missing[0]} in the YAML of fairseq-hydra-train, or use one "
            "optimizer for both players, with --disc-lr."
        )


def refuse_unknown_metric(task_cfg, logged) -> None:
    """Stop before fairseq looks up in vain what --best-checkpoint-metric names.

    Args:
        logged: what a validation has logged, by name

    Raises:
        ValueError: if it is none of *logged*
    """
    root = _whole_run(task_cfg)
    if root is None or "checkpoint" not in root:
        return
    metric = root.checkpoint.best_checkpoint_metric
    if metric not in logged:
        raise ValueError(
            f"--best-checkpoint-metric {metric} is not among what a validation logs: choose one of "
            f"{', '.join(sorted(name for name in logged if not name.startswith('_')))}."
        )


def scores_without_targets(task_cfg) -> bool:
    """Whether `--scoring` names a scorer that looks at hypotheses alone; *task_cfg* is the task's node of them."""
    from fairseq.scoring import SCORER_REGISTRY

    root = _whole_run(task_cfg)
    scoring = getattr(root, "scoring", None)
    return getattr(SCORER_REGISTRY.get(getattr(scoring, "_name", scoring)), "ignores_targets", False)
