"""A checkpoint without what only training needs: discriminator, rollout policy, state of the optimizer.

    python -m fairseq_seqvae.export checkpoints/checkpoint_last.pt --out model.pt

fairseq-generate, fairseq-interactive, fairseq-validate, --finetune-from-model and SeqVAEModel.from_pretrained take it
like the checkpoint that it was made of. A training cannot go on from it.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fairseq_seqvae import checkpoints, command_line
from fairseq_seqvae.files import whole_file

# Parts of the model, by the beginning of their parameters' names.
TRAINING_ONLY = ("discriminator.", "rollout_decoder.", "exact_rollout.")


def inference_state(state: dict[str, Any], ema: bool = False) -> dict[str, Any]:
    """What generation needs of the *state* in a checkpoint of fairseq-train.

    Args:
        ema: take the moving average of the parameters that --store-ema keeps

    Raises:
        ValueError: if the checkpoint is of another model, or has no moving average
    """
    if not checkpoints.is_seqvae(state["model"]):
        raise ValueError(f"the checkpoint is not of a SeqVAE but of {state['cfg']['model']['_name']!r}")
    parameters = state["model"]
    if ema:
        if "ema" not in state["extra_state"]:
            raise ValueError("the checkpoint has no moving average of the parameters: train with --store-ema")
        parameters = state["extra_state"]["ema"]
    return {
        "args": None,
        "cfg": state["cfg"],
        "model": {name: value for name, value in parameters.items() if not name.startswith(TRAINING_ONLY)},
        "criterion": None,
        "task_state": state["task_state"],
        # fairseq looks for these when it loads a model.
        "optimizer_history": state["optimizer_history"][-1:],
        "extra_state": {"train_iterator": state["extra_state"]["train_iterator"]},
    }


def export(args: argparse.Namespace) -> None:
    """Run the command."""
    command_line.refuse_existing([args.out], args.force)
    with checkpoints.reading(args.checkpoint):
        state = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
        exported = inference_state(state, args.ema)
    buffer = io.BytesIO()  # torch's own writer of files does not say why it cannot write one
    torch.save(exported, buffer)
    with whole_file(args.out) as partial:
        partial.write_bytes(buffer.getbuffer())
    before, after = (file.stat().st_size / 2**20 for file in (args.checkpoint, args.out))
    print(f"{args.out}: {after:.1f} MiB instead of {before:.1f} MiB")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run; the exit status."""
    program = "python -m fairseq_seqvae.export"
    parser = argparse.ArgumentParser(
        prog=program, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="file that fairseq-train wrote")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--ema", action="store_true", help="take the moving average that --store-ema keeps")
    parser.add_argument("--force", action="store_true", help="overwrite the file to write")
    return command_line.report(program, export, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
