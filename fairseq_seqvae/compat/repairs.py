"""The table of repairs: what each replaces in fairseq, why, and when it can go; `apply_repairs` applies this table."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fairseq_seqvae.compat import command_line, generating, guarding, launch, resuming, saving, training

Function = Callable[..., Any]

# The fairseq whose lines the table names.
REFERENCE = "ve-fairseq 0.12.3"
OLDEST = "fairseq 0.12.2 or earlier"


def always() -> bool:
    """The need shows only in a run; elsewhere the repair calls fairseq's own function and changes nothing."""
    return True


@dataclass(frozen=True)
class Repair:
    """One repair: a function of fairseq is replaced by what *make* makes of it.

    Attributes:
        make: takes the original, returns the replacement
        module: of fairseq
        attribute: in the module, or of a class in it, as in ``Trainer.train_step``
        without: what goes wrong without the repair
        line: file and line of the reference fairseq where it does
        code: part of that line
        since: versions in which it goes wrong
        until: when the repair can go
        needed: tests for the feature, not for a version; where it says no, nothing is replaced
    """

    make: Callable[[Function], Function]
    module: str
    attribute: str
    without: str
    line: str
    code: str
    since: str
    until: str
    needed: Callable[[], bool] = always

    @property
    def place(self) -> str:
        """Full name of what is replaced."""
        return f"{self.module}.{self.attribute}"

    def owner(self) -> Any:
        """The module or class that holds the attribute."""
        owner = importlib.import_module(self.module)
        for name in self.attribute.split(".")[:-1]:
            owner = getattr(owner, name)
        return owner

    def apply(self) -> None:
        """Replace the attribute, unless that was done before or is not needed."""
        owner, name = self.owner(), self.attribute.split(".")[-1]
        original = getattr(owner, name)
        done = getattr(original, "repairs", ())
        if self.make.__name__ in done or not self.needed():
            return
        replacement: Any = self.make(original)
        replacement.repairs = (*done, self.make.__name__)
        is_static = isinstance(vars(owner).get(name), staticmethod)  # an inherited one is replaced in the heir alone
        setattr(owner, name, staticmethod(replacement) if is_static else replacement)


# Several repairs of one function wrap it in this order, the last one outermost.
REPAIRS = (
    Repair(
        command_line.keep_bf16_off_tpus,
        module="fairseq.options",
        attribute="parse_args_and_arch",
        without="`--bf16` and `--memory-efficient-bf16` also switch on `--tpu`; training then fails for lack of "
        "torch_xla, with `'NoneType' has no attribute 'xla_device'`.",
        line="fairseq/options.py:201",
        code="args.tpu = True",
        since=OLDEST,
        until="`--bf16` no longer implies a TPU.",
        needed=command_line.no_tpu,
    ),
    Repair(
        command_line.show_chosen_options,
        module="fairseq.options",
        attribute="parse_args_and_arch",
        without="`--help` lists fairseq's common options only, none of the task, model and criterion named beside it.",
        line="fairseq/options.py:138",
        code="args, _ = parser.parse_known_args(input_args)",
        since=OLDEST,
        until="fairseq ignores `--help` in its first look at the command line.",
    ),
    Repair(
        launch.refuse_launch_without_processes,
        module="fairseq.distributed.utils",
        attribute="call_main",
        without="`--distributed-init-method` without a GPU starts no process at all, and the command reports success.",
        line="fairseq/distributed/utils.py:383",
        code="torch.cuda.device_count(),",
        since=OLDEST,
        until="fairseq refuses to start zero processes.",
    ),
    Repair(
        launch.release_folders,
        module="fairseq.distributed.utils",
        attribute="call_main",
        without="Two trainings in one `--save-dir` overwrite each other's checkpoints; the plugin locks the folder, "
        "and here releases it.",
        line="fairseq/checkpoint_utils.py:40",
        code="os.makedirs(cfg.save_dir, exist_ok=True)",
        since=OLDEST,
        until="fairseq locks the folder.",
    ),
    Repair(
        launch.launch_by_torchrun_on_cpus,
        module="fairseq.distributed.utils",
        attribute="_infer_torch_distributed_launch_init",
        without="Processes of torchrun without a GPU end in a `ZeroDivisionError`.",
        line="fairseq/distributed/utils.py:91",
        code="cfg.distributed_rank % torch.cuda.device_count()",
        since="after fairseq 0.12.2",
        until="fairseq counts GPUs before it divides by their number.",
    ),
    Repair(
        launch.distribute_on_cpus,
        module="fairseq.models.distributed_fairseq_model",
        attribute="DistributedDataParallel",
        without="Several processes on CPUs with `--ddp-backend pytorch_ddp` end in a `ValueError` about `device_ids`. "
        "More than two do not resume exactly: torch sums gradients in another order after the first update of a run.",
        line="fairseq/models/distributed_fairseq_model.py:62",
        code="device_ids=[args.device_id]",
        since=OLDEST,
        until="fairseq passes no device for models on CPUs.",
    ),
    Repair(
        launch.hand_over_objects,
        module="fairseq.distributed.utils",
        attribute="_broadcast_object_slow",
        without="Several processes cannot resume: `torch.load` refuses what the first process sends to the others.",
        line="fairseq/distributed/utils.py:805",
        code="torch.load(buffer",
        since="torch 2.6",
        until="fairseq sends objects by torch's `broadcast_object_list`, or names its classes to `torch.load`.",
        needed=launch.distrusts_own_objects,
    ),
    Repair(
        saving.load_safely,
        module="fairseq.checkpoint_utils",
        attribute="load_checkpoint_to_cpu",
        without="With torch before 2.6, a checkpoint can run code when it is loaded. With any torch, damaged and "
        "foreign files end in a traceback of the reader.",
        line="fairseq/checkpoint_utils.py:340",
        code="torch.load(f",
        since=OLDEST,
        until="fairseq loads with `weights_only=True` and explains what it cannot load.",
    ),
    Repair(
        guarding.check_before_building,
        module="fairseq.checkpoint_utils",
        attribute="load_model_ensemble_and_task",
        without="`fairseq-validate` and `fairseq-eval-lm` build whatever task, model and criterion a checkpoint names, "
        "some of which evaluate their options as code; impossible sizes are allocated.",
        line="fairseq/checkpoint_utils.py:461",
        code="task = tasks.setup_task(cfg.task, from_checkpoint=True)",
        since=OLDEST,
        until="fairseq's models, tasks and criterions evaluate no text of their options.",
    ),
    Repair(
        saving.let_finished_runs_rest,
        module="fairseq.checkpoint_utils",
        attribute="load_checkpoint",
        without="A run that has made its `--max-update` updates makes one more each time its command is given again.",
        line="fairseq_cli/train.py:195",
        code="while epoch_itr.next_epoch_idx <= max_epoch",
        since=OLDEST,
        until="fairseq compares the number of updates before the first one.",
    ),
    Repair(
        saving.refuse_missing_file,
        module="fairseq.checkpoint_utils",
        attribute="load_checkpoint",
        without="A mistyped `--restore-file` starts from scratch, and overwrites the checkpoints in the folder.",
        line="fairseq/trainer.py:689",
        code="No existing checkpoint found",
        since=OLDEST,
        until="fairseq refuses a `--restore-file` that does not exist.",
    ),
    Repair(
        saving.copy_whole_or_not_at_all,
        module="fairseq.file_io",
        attribute="PathManager.copy",
        without="A process killed while it copies a new checkpoint over `checkpoint_last.pt` leaves half a file.",
        line="fairseq/file_io.py:76",
        code="shutil.copyfile(src_path, dst_path)",
        since=OLDEST,
        until="fairseq copies to another name and renames.",
    ),
    Repair(
        saving.explain_unusable_folder,
        module="fairseq.checkpoint_utils",
        attribute="verify_checkpoint_directory",
        without="A `--save-dir` that cannot be written to ends in a traceback about a file named `dummy`.",
        line="fairseq/checkpoint_utils.py:883",
        code="raise e",
        since=OLDEST,
        until="fairseq's error names `--save-dir`.",
    ),
    Repair(
        saving.leave_no_half_checkpoint,
        module="fairseq.checkpoint_utils",
        attribute="save_checkpoint",
        without="A full disk leaves half a checkpoint, `*.pt.tmp`, which takes the space that is missing, and ends in "
        "a traceback of torch's writer.",
        line="fairseq/checkpoint_utils.py:585",
        code='with PathManager.open(filename + ".tmp", "wb")',
        since=OLDEST,
        until="fairseq removes the file after a failed write.",
    ),
    Repair(
        saving.explain_misfit,
        module="fairseq.trainer",
        attribute="Trainer.load_checkpoint",
        without="What the model says of a checkpoint is hidden behind `please ensure that the architectures match`.",
        line="fairseq/trainer.py:596",
        code="except Exception:",
        since=OLDEST,
        until="fairseq's error contains the model's.",
    ),
    Repair(
        saving.begin_missing_average,
        module="fairseq.trainer",
        attribute="Trainer.load_checkpoint",
        without="`--store-ema` from a checkpoint without a moving average ends in `KeyError: 'model'`: the parameters "
        "that it should begin with have been deleted.",
        line="fairseq/trainer.py:666",
        code='state["model"], build_fp32_params',
        since=OLDEST,
        until="fairseq keeps the parameters until the average is restored.",
    ),
    Repair(
        saving.refuse_partial_state,
        module="fairseq.trainer",
        attribute="Trainer.load_checkpoint",
        without="A checkpoint without the state of the optimizer, and a folder, start from update 0 without a word.",
        line="fairseq/trainer.py:604",
        code="if last_optim_state is not None and not reset_optimizer",
        since=OLDEST,
        until="fairseq refuses to resume from such a checkpoint unless told to reset the optimizer.",
    ),
    Repair(
        resuming.save_what_is_forgotten,
        module="fairseq.trainer",
        attribute="Trainer.state_dict",
        without="`--optimizer sgd`, `adagrad`, `adadelta`, `adafactor`, `adamax` and `--lr-scheduler manual` put an "
        "`argparse.Namespace` into checkpoints, which a safe reader refuses; `--patience` and `--ema-update-freq` "
        "count from 0 after a restart.",
        line="fairseq/trainer.py:405",
        code="OmegaConf.to_container(self.cfg",
        since=OLDEST,
        until="all options of fairseq have a dataclass, and it saves these counters.",
    ),
    Repair(
        resuming.restore_what_is_forgotten,
        module="fairseq.trainer",
        attribute="Trainer.load_checkpoint",
        without="The last checkpoint of an epoch is written before the schedule hears of the validation, and a run "
        "that continues from it never tells: `reduce_lr_on_plateau` shrinks the rate too late. With another number of "
        "processes within an epoch, a run continues at another place in the data without a word.",
        line="fairseq_cli/train.py:210",
        code="lr = trainer.lr_step(epoch_itr.epoch, valid_losses[0])",
        since=OLDEST,
        until="fairseq saves after that step, and counts the batches of all processes.",
    ),
    Repair(
        resuming.save_plateau,
        module="fairseq.optim.lr_scheduler.reduce_lr_on_plateau",
        attribute="ReduceLROnPlateauLRSchedule.state_dict",
        without="The patience of `reduce_lr_on_plateau` counts from 0 after a restart.",
        line="fairseq/optim/lr_scheduler/reduce_lr_on_plateau.py:110",
        code='"best": self.lr_scheduler.best',
        since=OLDEST,
        until="fairseq saves the whole state of torch's scheduler.",
    ),
    Repair(
        resuming.restore_plateau,
        module="fairseq.optim.lr_scheduler.reduce_lr_on_plateau",
        attribute="ReduceLROnPlateauLRSchedule.load_state_dict",
        without="The same.",
        line="fairseq/optim/lr_scheduler/reduce_lr_on_plateau.py:116",
        code='self.lr_scheduler.best = state_dict["best"]',
        since=OLDEST,
        until="fairseq saves the whole state of torch's scheduler.",
    ),
    *(
        Repair(
            make,
            module=module,
            attribute=f"{owner}.{method}",
            without=without,
            line=line,
            code=code,
            since=OLDEST,
            until=until,
        )
        for owner, module, line, code, without, until in (
            (
                "_FP16OptimizerMixin",
                "fairseq.optim.fp16_optimizer",
                "fairseq/optim/fp16_optimizer.py:84",
                'state_dict["loss_scale"] = self.scaler.loss_scale',
                "The scale of `--fp16` grows at other updates after a restart.",
                "fairseq saves what its scaler counts.",
            ),
            (
                "_MemoryEfficientFP16OptimizerMixin",
                "fairseq.optim.fp16_optimizer",
                "fairseq/optim/fp16_optimizer.py:356",
                'state_dict["loss_scale"] = self.scaler.loss_scale',
                "The scale of `--memory-efficient-fp16` grows at other updates after a restart.",
                "fairseq saves what its scaler counts.",
            ),
            (
                "AMPOptimizer",
                "fairseq.optim.amp_optimizer",
                "fairseq/optim/amp_optimizer.py:26",
                "self._grad_scaler = torch.cuda.amp.GradScaler(**amp_kwargs)",
                "After a restart the loss scale of `--amp` is back at its first value.",
                "fairseq saves the state of torch's scaler.",
            ),
        )
        for method, make in (
            ("state_dict", resuming.save_loss_scaler),
            ("load_state_dict", resuming.restore_loss_scaler),
        )
    ),
    Repair(
        resuming.save_float32_copies,
        module="fairseq.optim.fp16_optimizer",
        attribute="_FP16OptimizerMixin.state_dict",
        without="A run with `--fp16` or `--bf16` continues from rounded parameters.",
        line="fairseq/optim/fp16_optimizer.py:82",
        code="state_dict = self.fp32_optimizer.state_dict()",
        since=OLDEST,
        until="fairseq saves its float32 copies of the parameters.",
    ),
    Repair(
        resuming.restore_float32_copies,
        module="fairseq.optim.fp16_optimizer",
        attribute="_FP16OptimizerMixin.load_state_dict",
        without="The same.",
        line="fairseq/optim/fp16_optimizer.py:97",
        code="self.fp32_optimizer.load_state_dict(state_dict, optimizer_overrides)",
        since=OLDEST,
        until="fairseq saves its float32 copies of the parameters.",
    ),
    Repair(
        resuming.shuffle_as_asked,
        module="fairseq.data.iterators",
        attribute="EpochBatchIterator._get_iterator_for_epoch",
        without="After `--curriculum N` epochs the batches are still not shuffled, unless the run is stopped and "
        "continued: then they are shuffled.",
        line="fairseq/data/iterators.py:485",
        code="self.epoch_batch_sampler.make_batches_for_epoch(epoch, offset)",
        since="after fairseq 0.12.2",
        until="fairseq passes on whether an epoch is shuffled.",
    ),
    Repair(
        training.let_tasks_explain_floating_point_errors,
        module="fairseq.trainer",
        attribute="Trainer.train_step",
        without="`gradients are Nan/Inf` says neither which player's nor what to try.",
        line="fairseq/trainer.py:970",
        code="gradients are Nan/Inf",
        since=OLDEST,
        until="fairseq asks the task for the message.",
    ),
    Repair(
        training.skip_overflows_without_a_gpu,
        module="fairseq.trainer",
        attribute="Trainer.train_step",
        without="On a CPU, the first overflow that `--fp16` should skip ends the training: fairseq moves a zero to a "
        "GPU.",
        line="fairseq/trainer.py:1023",
        code="torch.tensor(0.0).cuda()",
        since=OLDEST,
        until="fairseq makes the zero on the trainer's device.",
    ),
    Repair(
        training.clip_gradients_where_they_are,
        module="fairseq.utils",
        attribute="clip_grad_norm_",
        without="With `--cpu` on a machine that has a GPU, `--clip-norm` ends the training: fairseq takes the norm to "
        "the GPU.",
        line="fairseq/utils.py:378",
        code="device = torch.cuda.current_device()",
        since=OLDEST,
        until="fairseq asks where the gradients are.",
        needed=torch.cuda.is_available,
    ),
    Repair(
        training.omit_empty_batches,
        module="fairseq.trainer",
        attribute="Trainer.train_step",
        without="If the last batch of an update is empty in one of several processes, what this process learned from "
        "the others is not counted.",
        line="fairseq/trainer.py:898",
        code="sample_size.zero_()",
        since=OLDEST,
        until="fairseq ignores empty batches one by one.",
    ),
    Repair(
        training.unscale_amp_gradients_once,
        module="fairseq.optim.amp_optimizer",
        attribute="AMPOptimizer.step",
        without="`--amp` divides gradients by the loss scale twice: SGD and NAG hardly move.",
        line="fairseq/optim/amp_optimizer.py:49",
        code="self.scaler.step(self.fp32_optimizer)",
        since=OLDEST,
        until="fairseq unscales and steps the same optimizer.",
        needed=training.unscales_amp_gradients_twice,
    ),
    Repair(
        training.keep_last_batch,
        module="fairseq.data.data_utils",
        attribute="batch_by_size",
        without="The last batch of every iterator, also of validation and generation, is lost if its size is no "
        "multiple of `--required-batch-size-multiple` (8); an empty data set ends in an `IndexError`.",
        line="fairseq/data/data_utils.py:358",
        code="b = b[:-1]",
        since="after fairseq 0.12.2",
        until="fairseq keeps the last batch.",
        needed=training.drops_last_batch,
    ),
    Repair(
        generating.keep_options_at_hand,
        module="fairseq.scoring",
        attribute="build_scorer",
        without="`fairseq-generate` looks up 20 options at each sentence, which takes a quarter of its time if batches "
        "are large.",
        line="fairseq_cli/generate.py:262",
        code="cfg.generation.nbest",
        since=OLDEST,
        until="fairseq's configuration is made of plain objects.",
    ),
    Repair(
        training.forget_ended_metrics,
        module="fairseq.logging.metrics",
        attribute="aggregate",
        without="Each update leaves the name of an aggregation behind, about 100 bytes, for the rest of the run.",
        line="fairseq/logging/metrics.py:96",
        code="_active_aggregators_cnt[name] -= 1",
        since=OLDEST,
        until="fairseq deletes counts that have reached zero.",
        needed=training.remembers_ended_metrics,
    ),
    Repair(
        training.omit_missing_numbers,
        module="fairseq.logging.metrics",
        attribute="get_smoothed_values",
        without="The log shows `loss=None` for an interval without a turn of the generator.",
        line="fairseq/logging/metrics.py:317",
        code="return _aggregators[name].get_smoothed_values()",
        since=OLDEST,
        until="fairseq omits numbers that do not exist.",
    ),
)


def apply_repairs() -> None:
    """Repair at run time, without editing a file, what this fairseq lacks on this torch. Calling it again is safe."""
    for repair in REPAIRS:
        repair.apply()


def as_markdown() -> str:
    """The table as the page `docs/repairs.md`."""
    rows = [
        f"| `{repair.place}` | {repair.without} | `{repair.line}`: `{repair.code}` | {repair.since} | {repair.until} |"
        for repair in REPAIRS
    ]
    return "\n".join(
        [
            "# Repairs of fairseq",
            "",
            "Registering the plugin replaces these functions of fairseq in the running process; it edits no file.",
            "A repair is applied only where a test for the feature finds it needed, and passes everything else on to",
            f"fairseq's own function. Lines are those of {REFERENCE}. `compat/repairs.py` holds this table and applies",
            "it; `python -m fairseq_seqvae.compat` prints this page.",
            "",
            "| replaces | without it | cause | since | can go when |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
