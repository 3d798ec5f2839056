"""`python -m fairseq_seqvae latent-card`: which remedies against an unused latent help, on which data, at what price.

Every method is trained by fairseq-train with the options of a folder of YAML files, on several data sets with several
seeds, then measured: likelihood beside that of a language model, use of the latent, reconstruction, quality of samples,
time. Writes card.md, card.csv, card.json and a figure, again after every cell, of all cells in the folder that were
made with the same settings and recipes. What was finished is not done again: after an interruption, give the same
command.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairseq_seqvae.cards import latent_cells as c
from fairseq_seqvae.cards import latent_report as r
from fairseq_seqvae.cards.command import choose, make_each, names, new_parser, parse, raise_failures
from fairseq_seqvae.cards.files import write_json
from fairseq_seqvae.cards.latent_recipes import Recipes
from fairseq_seqvae.cards.spreads import plain
from fairseq_seqvae.runs import steps as s
from fairseq_seqvae.support.command_line import positive

EXAMPLE = "examples/latents/recipes"
FOLDER = "runs/latent-card"
SMOKE: dict[str, Any] = {
    "sequences": 30,
    "importance_samples": 4,
    "samples": 200,
    "bleu_hypotheses": 20,
    "bleu_references": 10,
    "judge_sequences": 200,
    "smoke": True,
}
FIGURES = {"nll_information": r.draw, "frontier": r.draw_frontier}
NUMBERS = {
    "--sequences": "held-out sequences, the first ones of the test split (default: 1000)",
    "--importance-samples": "draws of z for each of them (default: 500)",
    "--samples": "sequences from the prior of each model (default: 10000)",
    "--updates": "updates of training, instead of those in data_sets.yaml",
}


def body(args: argparse.Namespace) -> None:
    """Make what is missing, report what is there."""
    args.out.mkdir(parents=True, exist_ok=True)
    recipes: Recipes = args.recipes
    cells = c.Cells(args.out, settings(args), recipes, args.root)
    for name in args.data_sets:
        cells.make_data(name)
    wanted = [
        # All methods with the first seed come first: so an early look at the card compares them.
        c.Cell(data_set, method, seed)
        for seed in args.seeds
        for data_set in args.data_sets
        for method in args.methods
        if (cells.settings.reverse if method == c.REAL else recipes.applies(method, data_set))
    ]
    failures = make_each(wanted, cells.make, lambda: report(args.out, cells))
    figures = {f"figure {name}": args.out / f"{name}.png" for name in FIGURES}
    cells.steps.finish({"card": args.out / "card.md", "numbers": args.out / "card.csv", **figures})
    raise_failures(failures)


def settings(args: argparse.Namespace) -> c.Settings:
    """What was asked for; --smoke has smaller defaults."""
    given = {
        "sequences": args.sequences,
        "importance_samples": args.importance_samples,
        "samples": args.samples,
        "updates": args.updates,
    }
    given |= {"reverse": False if args.no_reverse else None}
    return c.Settings(**{**(SMOKE if args.smoke else {}), **{k: v for k, v in given.items() if v is not None}})


def report(out: Path, cells: c.Cells) -> None:
    """Write the card of all cells that are there, whatever command has made them."""
    done, left_out = cells.finished()
    methods = cells.recipes.methods
    pairs = {name: recipe["twin"] for name, recipe in methods.items() if "twin" in recipe}
    blocks = []
    for name in dict.fromkeys(cell["data_set"] for cell in done):
        own = [cell for cell in done if cell["data_set"] == name]
        true = next((cell for cell in own if "true_nll" in cell), None)
        truth = {"nll": true["true_nll"], "information": true["true_mutual_information"]} if true else None
        blocks.append(
            {"data_set": name, "truth": truth, "methods": r.summarise(own), "twins": r.twins(own, pairs)}
            | {"updates": cells.recipes.updates(name, cells.settings.updates, cells.settings.smoke)}
            | {"held_out": _of_held_out(own)}
        )
    shown = {cell["method"] for cell in done}
    described = {c.REAL: "sentences of the training split, judged as samples are"}
    described |= {name: recipe["what"] for name, recipe in methods.items()}
    card = {
        "protocol": protocol(cells.settings, {block["data_set"]: block["updates"] for block in blocks}),
        "left_out": ["-".join(map(str, cell)) for cell in left_out],
        "data_sets": blocks,
        "methods": {name: what for name, what in described.items() if name in shown},
    }
    write_json(out / "card.json", {**plain(card), "cells": done})
    (out / "card.md").write_text(r.markdown(card), encoding="utf-8")
    r.write_csv(out / "card.csv", done)
    for name, draw in FIGURES.items():
        figure = draw(blocks)
        for suffix in ("png", "svg"):
            figure.savefig(out / f"{name}.{suffix}", dpi=150)


def _of_held_out(cells: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What was counted of the held-out sequences: the same in all cells of a data set."""
    known = "held_out_"
    return {
        name.removeprefix(known): value
        for cell in cells
        for name, value in cell.items()
        if name.startswith(known) and isinstance(value, float)
    }


def protocol(settings: c.Settings, updates: dict[str, int]) -> list[str]:
    """How the numbers were made, a line each."""
    counts = ", ".join(f"{number} on {name}" for name, number in updates.items())
    return [
        f"Updates of the generator: {counts}, of the examples' recipes as many as these have; the last checkpoint, "
        "without early stopping.",
        f"NLL: importance-weighted bound with {settings.importance_samples} draws of z from q(z|x), nats per sequence, "
        f"mean over the first test sequences, at most {settings.sequences}; exact for lm.",
        "± is the 95 % t-interval over seeds, s.e. the standard error over sequences.",
        "Gap: NLL less that of lm (same decoder and seed); below 0 is better.",
        "Reconstruction: -E_q log p(x|z), nats.",
        "MI: mutual information of x and z under q, nats, at most the logarithm of the number of sequences (≥: above "
        f"{r.NEAR_CEILING:.0%} of that); MI bound: from above, by moments.",
        "Active units: variance of the mean above 0.01.",
        "Greedy accuracy: share of the tokens, of melodies the notes, that greedy decoding from the mean of q(z|x) "
        "gives back at their place; BLEU of these reconstructions; different: how many different ones per different "
        "original.",
        "Of all tokens: greedy accuracy of melodies, holds and silence included; whole: sequences without a mistake.",
        "Judge: held-out accuracy of a discriminator that is trained afterwards to tell draws from data (0.5: blind); "
        "in one scale, a bar returns, copies: of these draws.",
        f"Of {settings.samples} samples from the prior at temperature 1 (real: at most as many sentences): reverse "
        "perplexity, per token, of real test sequences under a model trained on the samples as lm is on the data; "
        f"self-BLEU of {settings.bleu_hypotheses} samples against {settings.bleu_references} others each; share of "
        "distinct bigrams.",
        f"Time: CPU seconds of training, start and saving included, by those of {r.PLAIN} with the same seed; each "
        "ratio is of one pair of runs.",
    ]


def main(argv: Sequence[str] | None = None, config: Path | None = None, root: Path | None = None) -> int:
    """Run the command; 0, 1 after a step that failed, 2 after bad input, 130 after an interruption.

    Args:
        config: default of --config
        root: where commands are run, and the parent of the default folder (default: the working directory)
    """
    parser = new_parser("latent-card", __doc__, FOLDER, EXAMPLE)
    parser.add_argument(
        "--data-sets", "--data-set", type=names, metavar="NAME,...", help="names in data_sets.yaml (default: all)"
    )
    parser.add_argument(
        "--methods", type=names, metavar="NAME,...", help="names in methods.yaml, or real (default: all)"
    )
    parser.add_argument(
        "--no-reverse",
        action="store_true",
        help="no reverse perplexity, which trains a language model per cell (half of the time)",
    )
    for flag, text in NUMBERS.items():
        parser.add_argument(flag, type=positive, metavar="N", help=text)
    args = parse(parser, argv, config, root, FOLDER, EXAMPLE)
    try:
        args.recipes = Recipes.read(args.config)
    except ValueError as error:
        parser.error(str(error))
    choose(parser, args, data_sets=[*args.recipes.data_sets], methods=[c.REAL, *args.recipes.methods])
    return s.main(body, args)


if __name__ == "__main__":
    sys.exit(main())
