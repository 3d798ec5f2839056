"""How fairseq starts processes, and how they exchange objects."""

import functools
import io
import os
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairseq_seqvae.support import locks

if TYPE_CHECKING:  # `python -m fairseq_seqvae --version` works without torch
    from torch import nn

Function = Callable[..., Any]


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def refuse_launch_without_processes(original: Function) -> Function:
    """Stop where fairseq would start one process per GPU and there is no GPU."""

    @functools.wraps(original)
    def call_main(cfg: Any, main: Function, **kwargs: Any) -> Any:
        launch = cfg.distributed_training
        starts_processes = launch.distributed_init_method is not None and not launch.distributed_no_spawn
        if starts_processes and not _gpus() and not cfg.common.tpu:
            raise ValueError(
                "--distributed-init-method makes fairseq start a process per GPU, but there is none here: nothing "
                "would run. Omit it and start the processes by torchrun, or start them yourself, each with "
                "--distributed-no-spawn and its --distributed-rank."
            )
        return original(cfg, main, **kwargs)

    return call_main


def release_folders(original: Function) -> Function:
    """Release the folder of a training when it ends, so that the same process can make another."""

    @functools.wraps(original)
    def call_main(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        finally:
            locks.release_all()

    return call_main


def launch_by_torchrun_on_cpus(original: Function) -> Function:
    """Take rank and number of processes from torchrun, and no GPU where there is none."""

    @functools.wraps(original)
    def infer_torch_distributed_launch_init(cfg: Any) -> None:
        if _gpus():
            return original(cfg)
        cfg.distributed_init_method = "env://"
        cfg.distributed_world_size = int(os.environ["WORLD_SIZE"])
        cfg.distributed_rank = int(os.environ["RANK"])
        cfg.device_id = 0
        cfg.distributed_no_spawn = True

    return infer_torch_distributed_launch_init


def distribute_on_cpus(original: Function) -> Function:
    """Name no GPU to torch's wrapper of a model on the CPU, and let it sum gradients in one order throughout.

    After the first update of a run, torch sorts the gradients by their arrival, and so the order in which those of more
    than two processes are summed; in a resumed run that update is another one. Where it looks for unused parameters,
    it sorts nothing.
    """

    @functools.wraps(original, updated=())
    def distributed_data_parallel(
        module: "nn.Module", device_ids: list[int] | None = None, output_device: int | None = None, **kwargs: Any
    ) -> Any:
        if not any(p.is_cuda for p in module.parameters()):
            device_ids = output_device = None
            kwargs["find_unused_parameters"] = True
        return original(module, device_ids=device_ids, output_device=output_device, **kwargs)

    return distributed_data_parallel


def torch_loads(thing: object) -> bool:
    """Whether `torch.load` gives back what was saved, without being told to trust it."""
    import torch

    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    try:
        return torch.load(buffer) == thing
    except pickle.UnpicklingError:
        return False


def distrusts_own_objects() -> bool:
    """Whether `torch.load` refuses what one process of a training sends to another."""
    from fairseq.distributed import utils

    return not torch_loads(utils._TensorPlaceholder(0))


def hand_over_objects(original: Function) -> Function:
    """Let torch's own means transport objects between processes.

    These come from a process of the same training, not from a file, so they need no check.
    """

    @functools.wraps(original)
    def broadcast_object_slow(obj: Any, src_rank: int, group: Any, dist_device: Any) -> Any:
        import torch

        objects = [obj]
        torch.distributed.broadcast_object_list(objects, src_rank, group, dist_device)
        return objects[0]

    return broadcast_object_slow
