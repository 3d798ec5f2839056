"""The run script of an example with lines of text: binarise, train, sample, reconstruct, interpolate, continue."""

import argparse
from pathlib import Path

from fairseq_seqvae.runs import steps as s

SMOKE = {
    "task.gen_pretrain_updates": "20",
    "task.disc_pretrain_updates": "5",
    "optimization.max_update": "40",
    "common.log_interval": "5",
    "dataset.validate_interval_updates": "20",
    "checkpoint.save_interval_updates": "20",
}


def main(example: Path, description: str, default_folder: str, ends: tuple[str, str]) -> int:
    """Run the example in the folder *example*; *ends* are the sentences to walk between."""
    root = example.parents[1]

    def body(args: argparse.Namespace) -> None:
        folder, smoke = args.out, SMOKE if args.smoke else {}
        steps = s.Steps(folder, root)
        data = folder / "data"
        steps.run(
            "binarise the text",
            ["fairseq-preprocess", "--only-source", "--destdir", data, "--workers", "2"]
            + [
                part
                for split in ("train", "valid", "test")
                for part in (f"--{split}pref", example / "data" / f"{split}.txt")
            ],
        )
        checkpoint = s.train(steps, example, data, {"common.seed": str(args.seed)}, smoke)
        seed = ["--seed", str(args.seed)]
        # The most likely sentence of each z: where z carries the sentence, it gives the variety too.
        outputs = {
            "new": ["--gen-subset", "prior", "--num-draws", "100", "--beam", "5"],
            "reconstructed": ["--gen-subset", "test", "--beam", "5"],
            "interpolated": ["--gen-subset", "interpolate", "--num-draws", "8", "--beam", "5"]
            + ["--interpolate-from", ends[0], "--interpolate-to", ends[1]],
            # The z of a prefix would say that the sentence ends with it.
            "continued": ["--gen-subset", "test", "--prefix-size", "3", "--latent", "prior", "--beam", "5"],
        }
        results = {}
        for name, flags in outputs.items():
            results[name] = folder / f"{name}.txt"
            s.generate(steps, name, data, checkpoint, results[name], *flags, *seed)
        results["training curves"] = s.plot_curves(steps, example, smoke)
        for name in ("new", "interpolated"):
            print(f"\n{name}:")
            lines = [line for line in results[name].read_text(encoding="utf-8").splitlines() if line.startswith("D-")]
            for line in lines[:8]:
                print("   ", line.split("\t")[2])
        steps.finish(results | {"model": checkpoint})

    return s.main(body, s.parse_arguments(description, default_folder, root))

