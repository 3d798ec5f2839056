"""What the task checks and sets in the configuration of the whole run, of which fairseq hands it only its own node.

These are rules of this task, so they are not repairs of fairseq. Each function takes the task's node, *task_cfg*, finds
the whole configuration through it, and does nothing where there is none, as in a task made in Python.
"""

import logging
import os
from collections.abc import Iterable
from typing import Any

import torch

from fairseq_seqvae.core.schedules.run_state import RunState
from fairseq_seqvae.options import flag
from fairseq_seqvae.rewards import sources
from fairseq_seqvae.support import locks
from fairseq_seqvae.support.processes import is_master

logger = logging.getLogger(__name__)


def _whole_run(task_cfg: Any) -> Any:
    """The configuration that *task_cfg* is a node of, or None."""
    return task_cfg._get_root() if hasattr(task_cfg, "_get_root") else None


def refuse_lone_process(task_cfg: Any) -> None:
    """Stop a process of torchrun that would train alone.

    Without a GPU fairseq assumes one process unless told otherwise; each would then write a training of its own into
    the same folder.

    Raises:
        ValueError: torchrun started several processes, and fairseq knows of one
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


def claim_folder(task_cfg: Any) -> None:
    """Claim `--save-dir` for this training, unless it saves nothing; the first of several processes does so for all.

    Raises:
        OSError: another training writes there
    """
    root = _whole_run(task_cfg)
    if root is not None and "checkpoint" in root and not root.checkpoint.no_save and is_master():
        locks.claim(root.checkpoint.save_dir)


def uses_gpu(common: Any) -> bool:
    """Whether a run with these common options uses GPUs."""
    return torch.cuda.is_available() and not common.cpu


def prepare_for_two_players(task_cfg: Any) -> None:
    """Set what the run needs so that an update can move one player alone.

    With `--fp16` and `--bf16` fairseq merges the gradients of all parameters into one tensor, whose momentum and decay
    would also move the resting player: this keeps them apart. With `fully_sharded` nothing can. `--amp` without a GPU,
    which fairseq accepts and all but ignores, is switched off with a warning.

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
        root.common.amp = False  # otherwise fairseq asks a scaler that does not work for its scale
    if "distributed_training" in root and root.distributed_training.ddp_backend == "fully_sharded":
        raise ValueError(
            "--ddp-backend fully_sharded is not supported: it merges the parameters of generator and discriminator, "
            "which take turns; use pytorch_ddp or legacy_ddp."
        )


def refuse_no_updates(task_cfg: Any) -> None:
    """Stop a run whose updates have no batch; fairseq would fail later, somewhere in its arithmetic.

    Raises:
        ValueError: a number of `--update-freq` is below 1
    """
    root = _whole_run(task_cfg)
    if root is not None and "optimization" in root and min(root.optimization.update_freq, default=1) < 1:
        raise ValueError(
            f"--update-freq must be at least 1 but is {','.join(map(str, root.optimization.update_freq))}: it is the "
            "number of batches per update."
        )


def refuse_missing_groups(task_cfg: Any, players: Iterable[str]) -> None:
    """Stop where fairseq's `composite` optimizer, which holds one optimizer per player, has none for one of *players*.

    Raises:
        ValueError: so it is; on a command line always, since its groups cannot be given there
    """
    root = _whole_run(task_cfg)
    optimizer = getattr(root, "optimizer", None)
    if optimizer is None or getattr(optimizer, "_name", None) != "composite":
        return
    missing = [player for player in players if player not in optimizer.groups]
    if missing:
        raise ValueError(
            f"--optimizer composite has no group {' and no group '.join(missing)}: give an optimizer and an "
            f"lr_scheduler under optimizer.groups.{missing[0]} in the YAML of fairseq-hydra-train, or use one "
            "optimizer for both players, with --disc-lr."
        )


def refuse_one_sentence(task_cfg: Any, criterion_cfg: Any) -> None:
    """Stop where a baseline is to compare the sequences of batches that have one each.

    Raises:
        ValueError: `--batch-size 1`, and the policy gradient has such a baseline
    """
    root, baseline = _whole_run(task_cfg), getattr(criterion_cfg, "pg_baseline", "none")
    if root is None or "dataset" not in root or baseline == "none" or getattr(criterion_cfg, "pg_group_size", 1) > 1:
        return
    if root.dataset.batch_size == 1:
        raise ValueError(
            f"--batch-size 1 leaves --pg-baseline {baseline} no other sentence to compare with, so that the policy "
            "gradient would be 0: use larger batches, or --pg-baseline none."
        )


def refuse_without_latent(has_latent: bool, **wishes: float) -> None:
    """Stop where options that act on the latent vector are given to a model without one.

    Args:
        has_latent: whether the model has one
        wishes: values of the options, which are off at 0

    Raises:
        ValueError: one of them is not 0, and there is no latent vector
    """
    for name, value in wishes.items():
        if value and not has_latent:
            raise ValueError(
                f"{flag(name)} {value} needs a latent vector, but --latent-dim 0 has none: omit one of the two."
            )


def refuse_unknown_metric(task_cfg: Any, logged: Iterable[str]) -> None:
    """Stop before fairseq looks up a `--best-checkpoint-metric` that no validation logs.

    Args:
        logged: names of what a validation logs

    Raises:
        ValueError: the metric is none of *logged*
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


def restored_checkpoint(task_cfg: Any) -> str | None:
    """The checkpoint that fairseq will read all parameters of this run from, once the model is built; or None.

    Raises:
        ValueError: --finetune-from-model is given together with a flag that starts parts from elsewhere
    """
    root = _whole_run(task_cfg)
    if root is None or "checkpoint" not in root:
        return None
    checkpoint, model = root.checkpoint, root.get("model")
    if checkpoint.finetune_from_model:
        for name in ("init_decoder", "init_encoder", "init_embeddings"):
            if getattr(model, name, None):
                raise ValueError(
                    f"--finetune-from-model replaces all parameters, also those of --{name.replace('_', '-')}: omit "
                    "one of the two."
                )
    suffix = f"{checkpoint.checkpoint_suffix or ''}.pt"
    path = checkpoint.restore_file.replace(".pt", suffix)
    if checkpoint.restore_file == "checkpoint_last.pt":
        path = os.path.join(checkpoint.save_dir, path)
        if not os.path.isfile(path):
            path = checkpoint.get("continue_once") or checkpoint.finetune_from_model
    return path if path and os.path.isfile(path) else None


def first_valid_subset(task_cfg: Any) -> str:
    """The first split of `--valid-subset`."""
    root = _whole_run(task_cfg)
    known = root.dataset.valid_subset if root is not None and "dataset" in root else "valid"
    return str(known).split(",")[0]


def _criterion_option(task_cfg: Any, name: str, default: str) -> str:
    """An option of the run's criterion; *default* where there is no such option, as in a task made in Python."""
    return str(getattr(getattr(_whole_run(task_cfg), "criterion", None), name, None) or default)


def train_subset(task_cfg: Any) -> str:
    """Name of the split that the run trains on."""
    return str(getattr(getattr(_whole_run(task_cfg), "dataset", None), "train_subset", None) or "train")


def encoders(task_cfg: Any) -> tuple[Any, Any]:
    """The options of the run's subword encoder and of its tokenizer; None each where there is none."""
    root = _whole_run(task_cfg)
    return getattr(root, "bpe", None), getattr(root, "tokenizer", None)


def wants_discriminator(task_cfg: Any) -> bool:
    """Whether the rewards of the run are such that a discriminator has to be built."""
    return sources.uses_discriminator(_criterion_option(task_cfg, "reward_sources", sources.DISCRIMINATOR))


def wants_rollouts(task_cfg: Any) -> bool:
    """Whether the run completes prefixes, so that a rollout policy has to be built."""
    return _criterion_option(task_cfg, "value", "rollouts") == "rollouts"


def refuse_other_rewards(task_cfg: Any, given: str, restored: str | None, run_state: RunState) -> None:
    """Stop a run that continues with other rewards than it began with; write down those of one that begins.

    A resumed run would else, without a word, train by the default reward where the flag was forgotten.

    Args:
        given: what `--reward-sources` says now
        restored: checkpoint that the parameters are from, or None
        run_state: what the checkpoint holds besides parameters; nothing is added where the rewards are the default

    Raises:
        ValueError: the run continues, and its rewards were others
    """
    now, known = sources.label(given), run_state.get("reward_sources")
    before = "".join(chr(int(letter)) for letter in known) if known else sources.DISCRIMINATOR
    checkpoint = getattr(_whole_run(task_cfg), "checkpoint", None)
    begins = checkpoint is None or checkpoint.reset_optimizer or restored in (None, checkpoint.finetune_from_model)
    if before != now and not begins:
        how = f"with --reward-sources {before}" if known else f"by the ELBO or with --reward-sources {before}"
        raise ValueError(
            f"{restored} was trained {how}, and this command gives {now}: give the same rewards to continue, or start "
            "a new run in another --save-dir with --finetune-from-model."
        )
    if known or now != sources.DISCRIMINATOR:
        run_state.set("reward_sources", tuple(map(ord, now)))


def scores_without_targets(task_cfg: Any) -> bool:
    """Whether `--scoring` names a scorer that looks at hypotheses alone."""
    from fairseq.scoring import SCORER_REGISTRY

    root = _whole_run(task_cfg)
    scoring = getattr(root, "scoring", None)
    return getattr(SCORER_REGISTRY.get(getattr(scoring, "_name", scoring)), "ignores_targets", False)


def check_discriminator(discriminator: torch.nn.Module, cfg: Any) -> None:
    """Raise a ValueError, which names the flag, if the discriminator lacks what the criterion's options ask of it."""
    if cfg.disc_scoring == "tables" and not hasattr(discriminator, "logits_by_tables"):
        raise ValueError(
            f"{type(discriminator).__name__} cannot score by tables: use --disc-scoring auto, or --disc-scoring plain."
        )
    if cfg.gradient_penalty and not hasattr(discriminator, "judge_embedded"):
        raise ValueError(
            "--gradient-penalty needs a discriminator with the module `embedding` and the method `judge_embedded"
            f"(embedded, padding_mask)`, which {type(discriminator).__name__} does not have: add them, or leave "
            "--gradient-penalty at 0."
        )
    if cfg.disc_l2 and not hasattr(discriminator, "output"):
        raise ValueError(
            "--disc-l2 penalises the module `output` of the discriminator, which this discriminator does not have: "
            "name its last layer so, or leave --disc-l2 at 0."
        )
