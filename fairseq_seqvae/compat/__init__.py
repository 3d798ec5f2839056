"""What differs between the fairseq, torch, numpy and Python versions at hand, in one place.

`fairseq_problem` tells whether fairseq can be used at all; `apply_shims` repairs what can be repaired at run time.
"""

import importlib.util
import sys
from pathlib import Path

from fairseq_seqvae.compat import launch, precision, saving
from fairseq_seqvae.compat.installation import fairseq_problem, fairseq_version, installed_version, require_fairseq
from fairseq_seqvae.compat.launch import is_master
from fairseq_seqvae.compat.precision import ExplainedError
from fairseq_seqvae.compat.run_config import (
    prepare_for_two_players,
    refuse_lone_process,
    refuse_missing_groups,
    refuse_no_updates,
    refuse_unknown_metric,
    scores_without_targets,
)

__all__ = [
    "ExplainedError",
    "apply_shims",
    "fairseq_problem",
    "fairseq_version",
    "forget_ended_metrics",
    "installed_version",
    "is_master",
    "prepare_for_two_players",
    "refuse_lone_process",
    "refuse_missing_groups",
    "refuse_no_updates",
    "refuse_unknown_metric",
    "require_fairseq",
    "scores_without_targets",
]


def apply_shims() -> None:
    """Repair at run time, without editing a file, what this fairseq lacks on this torch. Safe to call again."""
    from fairseq import checkpoint_utils, options
    from fairseq.distributed import utils as distributed_utils
    from fairseq.file_io import PathManager
    from fairseq.models import distributed_fairseq_model
    from fairseq.optim.amp_optimizer import AMPOptimizer
    from fairseq.trainer import Trainer

    if importlib.util.find_spec("torch_xla") is None:
        _replace(options, "parse_args_and_arch", launch.keep_bf16_off_tpus)
    _replace(distributed_utils, "call_main", launch.refuse_launch_without_processes)
    _replace(distributed_utils, "_infer_torch_distributed_launch_init", launch.launch_by_torchrun_on_cpus)
    _replace(distributed_fairseq_model, "DistributedDataParallel", launch.distribute_on_cpus)
    if not launch.torch_loads(distributed_utils._TensorPlaceholder(0)):
        _replace(distributed_utils, "_broadcast_object_slow", launch.hand_over_objects)
    _replace(checkpoint_utils, "load_checkpoint_to_cpu", saving.load_safely)
    _replace(checkpoint_utils, "load_checkpoint", saving.let_finished_runs_rest, saving.refuse_missing_file)
    _replace(PathManager, "copy", saving.copy_whole_or_not_at_all)
    _replace(checkpoint_utils, "verify_checkpoint_directory", saving.explain_unusable_folder)
    _replace(checkpoint_utils, "save_checkpoint", saving.explain_unwritable)
    _replace(
        Trainer,
        "load_checkpoint",
        saving.explain_misfit,
        saving.begin_missing_average,
        saving.refuse_partial_state,
    )
    _replace(
        Trainer,
        "train_step",
        precision.let_tasks_explain_floating_point_errors,
        precision.skip_overflows_without_a_gpu,
        launch.leave_out_empty_batches,
    )
    if precision.unscales_amp_gradients_twice():
        _replace(AMPOptimizer, "step", precision.unscale_amp_gradients_once)
    if Path(sys.argv[0]).name.startswith("fairseq-"):  # in a program of someone else's, exceptions are theirs
        _replace(sys, "excepthook", saving.explain_end)


def forget_ended_metrics() -> None:
    """Each update leaves the names of its nested `metrics.aggregate()` behind in fairseq, 100 bytes each, for ever."""
    from fairseq.logging import metrics

    counts = getattr(metrics, "_active_aggregators_cnt", {})
    for name in [name for name, count in counts.items() if count == 0]:
        del counts[name]


def _replace(owner, name: str, *makes) -> None:
    """Replace the attribute *name* of *owner* by what *makes* make of it, one after another, unless done before."""
    original = getattr(owner, name)
    if getattr(original, "made_by_seqvae", False):
        return
    replacement = original
    for make in makes:
        replacement = make(replacement)
    replacement.made_by_seqvae = True
    setattr(owner, name, staticmethod(replacement) if isinstance(vars(owner)[name], staticmethod) else replacement)
