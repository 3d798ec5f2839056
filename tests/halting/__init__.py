"""The plugin, as a `--user-dir` under which fairseq-train halts where a test wants to kill it.

Environment variables:
    HALT_AT: updates that have been made; nothing halts before
    HALT_WHILE: `updating` (gradients are there, the parameters have not moved), `writing` (half a checkpoint is
        written) or `copying` (half of one is copied)
    HALT_FILE: written when the process of rank 0 halts, for good
"""

import os
import time
from pathlib import Path

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager
from fairseq.trainer import Trainer


def halt() -> None:
    Path(os.environ["HALT_FILE"]).touch()
    time.sleep(600)


def halting_update(original):
    def clip_grad_norm(self, *args, **kwargs):
        if self.data_parallel_rank == 0 and self.get_num_updates() >= updates:
            halt()
        return original(self, *args, **kwargs)

    return clip_grad_norm


def halting_write(original):
    def save(state, file):
        original(state, file)
        if state["optimizer_history"][-1]["num_updates"] >= updates:
            file.truncate(file.tell() // 2)
            halt()

    return save


def halting_copy(original):
    def copy(source, destination, overwrite=False):
        copied = original(source, destination, overwrite=overwrite)
        if torch.load(source, weights_only=True)["optimizer_history"][-1]["num_updates"] >= updates:
            os.truncate(destination, os.path.getsize(source) // 2)
            halt()
        return copied

    return copy


updates = int(os.environ["HALT_AT"])
if os.environ["HALT_WHILE"] == "updating":
    Trainer.clip_grad_norm = halting_update(Trainer.clip_grad_norm)
elif os.environ["HALT_WHILE"] == "writing":
    checkpoint_utils._torch_persistent_save = halting_write(checkpoint_utils._torch_persistent_save)
else:
    PathManager.copy = halting_copy(PathManager.copy)

import fairseq_seqvae  # noqa: E402

fairseq_seqvae.register()  # wraps what was made to halt
