"""The oracle card: the paper's synthetic experiment for a set of methods, lengths and seeds.

Every method is trained by fairseq-train with config/METHOD.yaml and measured at several temperatures, by two numbers:
the oracle's NLL of samples (quality) and the model's NLL of held-out data (coverage). Writes card.md, card.json,
card.csv and two figures, again after every cell, of all cells in the folder that were made with the same settings. What
was finished is not done again: after an interruption, give the same command.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairseq_seqvae.cards import cells as c
from fairseq_seqvae.cards import report as r
from fairseq_seqvae.cards import side_by_side
from fairseq_seqvae.cards.command import make_each, names, new_parser, numbers, parse, raise_failures
from fairseq_seqvae.cards.files import write_json
from fairseq_seqvae.cards.oracle_settings import PAPER_SEED, Settings
from fairseq_seqvae.cards.spreads import plain
from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.runs import steps as s
from fairseq_seqvae.support.command_line import positive, positive_number, seed, temperatures

# Lowest published oracle NLL of samples at each length (Gao, Cui, Ding 2021), of the oracle with seed 88.
PUBLISHED = {8: 7.46, 20: 8.42, 64: 8.18}
EXAMPLE = "examples/oracle/config"
FOLDER = "runs/card"
FIGURES = ("quality_coverage", "learning")
SMOKE_ORACLE = {"seed": 7, "vocab_size": 50, "embed_dim": 8, "hidden_dim": 8}
SMOKE: dict[str, Any] = {
    "draws": 500,
    "curve_draws": 200,
    "held_out": 100,
    "importance_samples": 8,
    "sizes": (("train", 1000), ("valid", 100), ("test", 200)),
    "smoke": True,
}


def body(args: argparse.Namespace) -> None:
    """Make what is missing, report what is there."""
    args.out.mkdir(parents=True, exist_ok=True)
    npz = args.npz.resolve() if args.npz else None
    if args.smoke:
        npz = args.out / "oracle.npz"
        Oracle.from_seed(**SMOKE_ORACLE).save_npz(npz)
    drawn = (PAPER_SEED, 1.0) if npz else (args.oracle_seed, args.oracle_scale)
    given: dict[str, Any] = {"npz": str(npz) if npz else None, "oracle_seed": drawn[0], "oracle_scale": drawn[1]}
    given |= {"draws": args.draws} | (SMOKE if args.smoke else {})
    settings = Settings(tuple(args.temperatures), **given)
    training = ({"common.cpu": "false"} if args.gpu else {}) | (
        {"checkpoint.save_interval_updates": "0"} if args.no_curve else {}
    )
    cells = c.Cells(args.out, settings, args.config, args.root, training)
    unknown = [method for method in args.methods if method not in cells.recipes["methods"]]
    if unknown:
        raise s.StepError(
            f"--methods: {', '.join(unknown)} is not in config/methods.yaml, which has "
            f"{', '.join(cells.recipes['methods'])}."
        )
    targets = PUBLISHED if settings.is_papers else {}
    for length in args.lengths:
        cells.make_data(length)
        cells.baselines(length)
    # All methods with the first seed come first: so an early look at the card compares them.
    wanted = [c.Cell(m, length, seed) for seed in args.seeds for length in args.lengths for m in args.methods]
    failures = make_each(wanted, cells.make, lambda: report(args.out, cells, targets, args.beside))
    figures = {f"figure of {name.replace('_', ' and ')}": args.out / f"{name}.png" for name in FIGURES}
    cells.steps.finish({"card": args.out / "card.md", **figures})
    raise_failures(failures)


def report(out: Path, cells: c.Cells, targets: dict[int, float], beside: Path | None = None) -> None:
    """Write the card of all cells that are there, whatever command has made them.

    Args:
        out: folder
        cells: of the card
        targets: published oracle NLL of each length
        beside: folder of the card of another oracle, which is shown beside this one
    """
    done = [cells.read(cell) for cell in cells.finished()]
    baselines = {length: cells.baselines(length) for length in sorted({cell["length"] for cell in done})}
    blocks = []
    for length in baselines:
        own = [cell for cell in done if cell["length"] == length]
        compared = r.reference(own, cells.recipes.get("maximum_likelihood", [r.MAXIMUM_LIKELIHOOD]), cells.sequences)
        arrays = {cell["seed"]: cells.sequences(cell) for cell in own if cell["method"] == compared.method}
        blocks.append(
            {
                "length": length,
                "target": targets.get(length),
                "baselines": baselines[length],
                "reference": compared.method,
                "methods": r.summarise(own, targets.get(length), compared),
                "mixtures": r.mixtures(arrays, compared.curves) if arrays else [],
            }
        )
    card: dict[str, Any] = {
        "oracle": cells.settings.description,
        "protocol": protocol(cells.settings),
        "lengths": blocks,
    }
    write_json(out / "card.json", {**plain(card), "cells": done})
    if beside:
        other = side_by_side.read_card(beside)
        card["beside"] = side_by_side.lines([card["oracle"], other["oracle"]], [card, other])
    (out / "card.md").write_text(r.markdown(card), encoding="utf-8")
    with_length = [{**row, "length": block["length"]} for block in blocks for row in block["baselines"]]
    r.write_csv(out / "card.csv", done, with_length)
    drawn = r.draw_quality_and_coverage(blocks, targets), r.draw_learning(blocks, done, targets)
    for name, figure in zip(FIGURES, drawn, strict=True):
        for suffix in ("png", "svg"):
            figure.savefig(out / f"{name}.{suffix}", dpi=150)


def protocol(settings: Settings) -> str:
    """How the numbers were made."""
    sizes = ", ".join(f"{size} for {split}" for split, size in settings.sizes)
    return (
        f"Sequences of {settings.description}: {sizes}; the same data (seed "
        f"{c.DATA_SEED}) for all methods and seeds. Oracle NLL: mean over {settings.draws} samples with z from the "
        f"prior. Held-out NLL: importance-weighted bound with {settings.importance_samples} draws of z from q(z|x) "
        f"(exact without z), mean over the first {settings.held_out} test sequences. Both in nats per token, at the "
        "same temperature of the decoder. KL and MI (mutual information of x and z under q): nats per sequence. ± is "
        "the 95 % t-interval over seeds, s.e. the standard error over sequences. Gap: held-out NLL less that of the "
        "best maximum likelihood (lowest held-out NLL at temperature 1) at the temperature that gives the same oracle "
        "NLL (monotone cubic between those measured), seed by seed; below 0 is better, - is beyond its temperatures, n "
        "the seeds that are within them. Mixed: the same for its line of mixed temperatures. Distinct: share of all, "
        "in brackets that of the best maximum likelihood there. Discriminator: share of held-out sentences and fresh "
        "samples that it tells correctly at the end. Rank of reward: rank correlation of the reward with the oracle's "
        "log-probability, in batches of samples. Training: wall time "
        f"of all stages, validation and saving included. Time to quality: {settings.curve_draws} samples of each "
        "checkpoint; the first one at or below the value from which on the mean of all evaluations is, too."
    )


def _parser() -> argparse.ArgumentParser:
    parser = new_parser("card", __doc__, FOLDER, EXAMPLE)
    parser.add_argument("--methods", type=names, metavar="NAME,...", help="names in methods.yaml (default: all)")
    parser.add_argument("--lengths", type=numbers, metavar="T,...", help="tokens per sequence (default: 8,20,64)")
    parser.add_argument(
        "--temperatures",
        type=temperatures,
        default=[1.0, 0.9, 0.8, 0.75, 0.7, 0.6],
        metavar="TAU,...",
        help="of the decoder, 1 among them (default: 1,0.9,0.8,0.75,0.7,0.6)",
    )
    parser.add_argument("--npz", type=Path, help="an oracle of these arrays instead of the paper's")
    parser.add_argument(
        "--oracle-seed",
        type=seed,
        default=PAPER_SEED,
        metavar="N",
        help="an oracle drawn from this seed (default: 88)",
    )
    parser.add_argument(
        "--oracle-scale", type=positive_number, default=1.0, metavar="X", help="factor of its weights (default: 1)"
    )
    parser.add_argument(
        "--beside", type=Path, metavar="DIR", help="folder of the card of another oracle, to show both side by side"
    )
    parser.add_argument(
        "--draws", type=positive, default=10_000, metavar="N", help="samples at each temperature (default: 10000)"
    )
    parser.add_argument("--gpu", action="store_true", help="train on a GPU; the recipes are for a CPU")
    parser.add_argument("--no-curve", action="store_true", help="score the end of each training only")
    return parser


def main(argv: Sequence[str] | None = None, config: Path | None = None, root: Path | None = None) -> int:
    """Run the command; 0, 1 after a step that failed, 2 after bad input, 130 after an interruption.

    Args:
        config: default of --config
        root: where commands are run, and the parent of the default folder (default: the working directory)
    """
    parser = _parser()
    args = parse(parser, argv, config, root, FOLDER, EXAMPLE)
    try:
        known = list(c.read_methods(args.config)["methods"])
    except ValueError as error:
        parser.error(str(error))
    args.methods = args.methods or known
    args.lengths = args.lengths or ([8] if args.smoke else [8, 20, 64])
    if args.npz and (args.oracle_seed, args.oracle_scale) != (PAPER_SEED, 1):
        parser.error("--npz brings the arrays: omit --oracle-seed and --oracle-scale")
    if 1 not in args.temperatures:
        parser.error("--temperatures must have 1 among them, the model as it is")
    return s.main(body, args)


if __name__ == "__main__":
    sys.exit(main())
