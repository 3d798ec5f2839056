"""How fairseq starts processes and lets them speak to each other, and how it reads the command line before that."""

import functools
import io
import os
import pickle


def keep_bf16_off_tpus(original):
    """`--bf16` and `--memory-efficient-bf16` make fairseq's command line assume a TPU, which dies without torch_xla.

    Answers `options.parse_args_and_arch`, which sets `tpu` along with `bf16`.
    """

    @functools.wraps(original)
    def parse_args_and_arch(*args, **kwargs):
        parsed = original(*args, **kwargs)
        namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(namespace, "bf16", False):
            namespace.tpu = False
        return parsed

    return parse_args_and_arch


def _gpus() -> int:
    import torch  # not above: the package's own commands need not wait for it

    return torch.cuda.device_count()


def refuse_launch_without_processes(original):
    """fairseq starts as many processes as there are GPUs: without one, it would end at once and report success."""

    @functools.wraps(original)
    def call_main(cfg, main, **kwargs):
        launch = cfg.distributed_training
        starts_processes = launch.distributed_init_method is not None and not launch.distributed_no_spawn
        if starts_processes and not _gpus() and not cfg.common.tpu:
            raise ValueError(
                "--distributed-init-method makes fairseq start a process for each GPU, but there is none here: nothing "
                "would run. Leave it away and start the processes by torchrun, or start them yourself, each with "
                "--distributed-no-spawn and its --distributed-rank."
            )
        return original(cfg, main, **kwargs)

    return call_main


def launch_by_torchrun_on_cpus(original):
    """fairseq divides by the number of GPUs to find the one that a process of torchrun should use."""

    @functools.wraps(original)
    def infer_torch_distributed_launch_init(cfg):
        if _gpus():
            return original(cfg)
        cfg.distributed_init_method = "env://"
        cfg.distributed_world_size = int(os.environ["WORLD_SIZE"])
        cfg.distributed_rank = int(os.environ["RANK"])
        cfg.device_id = 0
        cfg.distributed_no_spawn = True

    return infer_torch_distributed_launch_init


def distribute_on_cpus(original):
    """fairseq names a GPU to torch's wrapper of models, also for models on the CPU, where that is an error."""

    class DistributedDataParallel(original):
        def __init__(self, module, device_ids=None, output_device=None, **kwargs):
            if not any(p.is_cuda for p in module.parameters()):
                device_ids = output_device = None
            super().__init__(module, device_ids=device_ids, output_device=output_device, **kwargs)

    return DistributedDataParallel


def torch_loads(thing) -> bool:
    """Whether `torch.load` gives back what is saved, without being told to trust it."""
    import torch

    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    try:
        return torch.load(buffer) == thing
    except pickle.UnpicklingError:
        return False


def hand_over_objects(original):
    """The first process hands a checkpoint to the others, parts of which `torch.load` now takes for foreign code.

    They come from a process of the same training, not from a file: torch's own means may transport them.
    """

    @functools.wraps(original)
    def broadcast_object_slow(obj, src_rank, group, dist_device):
        import torch

        objects = [obj]
        torch.distributed.broadcast_object_list(objects, src_rank, group, dist_device)
        return objects[0]

    return broadcast_object_slow


def leave_out_empty_batches(original):
    """fairseq throws away what a process learns from the batches of an update if the last of them is empty.

    Batches are shared out one by one, so that in the last update of an epoch a process may get fewer than
    `--update-freq`; empty ones fill the rest. Only where all are empty is one needed, for the reduction over processes.
    """

    @functools.wraps(original)
    def train_step(self, samples, *args, **kwargs):
        # Sharded parameters are gathered in each forward, of all processes together.
        if not (self.is_fsdp or self.tpu):
            samples = [sample for sample in samples if sample is not None and len(sample)] or samples[:1]
        return original(self, samples, *args, **kwargs)

    return train_step


def is_master() -> bool:
    """Whether this process speaks for all: the first of several, or the only one."""
    from torch import distributed

    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
