"""A checkpoint without what only training needs: discriminator, rollout policy, state of the optimizer.

    python -m fairseq_seqvae.export checkpoints/checkpoint_last.pt --out model.pt

fairseq-generate, fairseq-interactive, fairseq-validate, --finetune-from-model and SeqVAEModel.from_pretrained take it
like the checkpoint that it was made of. Training cannot continue from it.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from fairseq_seqvae.export.state import inference_state
from fairseq_seqvae.support import checkpoints, command_line
from fairseq_seqvae.support.files import whole_file


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
