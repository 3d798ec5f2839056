"""`python -m fairseq_seqvae reward-card`: what a reward buys, and what it costs beside sampling that needs no training.

For each rule a model is trained by likelihood, then a policy for each recipe, by fairseq-train. Each stands with the
share of its samples that meet the rule and its divergence from the model before, beside the best of n draws and beside
lower temperatures, with held-out likelihood, variety, copies of training data and time. Writes card.md, card.csv,
card.json and a figure, again after every cell, of all cells in the folder that were made with the same settings and
recipes. What was finished is not done again: after an interruption, give the same command.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairseq_seqvae.cards import reward_cells as c
from fairseq_seqvae.cards import reward_report as r
from fairseq_seqvae.cards.command import choose, make_each, names, new_parser, numbers, parse, raise_failures
from fairseq_seqvae.cards.files import write_json
from fairseq_seqvae.cards.reward_recipes import BASE, Recipes
from fairseq_seqvae.cards.spreads import plain
from fairseq_seqvae.runs import steps as s
from fairseq_seqvae.support.command_line import positive, temperatures

EXAMPLE = "examples/rewards/recipes"
FOLDER = "runs/reward-card"
SMOKE: dict[str, Any] = {
    "samples": 40,
    "best_of": (1, 4),
    "temperatures": (0.5,),
    "sequences": 20,
    "importance_samples": 2,
    "smoke": True,
}
FIGURE = "share_divergence"


def body(args: argparse.Namespace) -> None:
    """Make what is missing, report what is there."""
    args.out.mkdir(parents=True, exist_ok=True)
    recipes: Recipes = args.recipes
    cells = c.Cells(args.out, settings(args), recipes, args.root)
    wanted = [
        # All policies with the first seed come first: so an early look at the card compares them.
        c.Cell(rule, policy, seed)
        for seed in args.seeds
        for rule in args.rules
        for policy in (BASE, *recipes.rules[rule].policies)
        if policy in args.policies
    ]
    failures = make_each(wanted, cells.make, lambda: report(args.out, cells))
    figures = {"figure": args.out / f"{FIGURE}.png"}
    cells.steps.finish({"card": args.out / "card.md", "numbers": args.out / "card.csv", **figures})
    raise_failures(failures)


def settings(args: argparse.Namespace) -> c.Settings:
    """What was asked for; --smoke has smaller defaults."""
    given = {
        "samples": args.samples,
        "best_of": tuple(sorted({1, *args.best_of})) if args.best_of else None,
        "temperatures": tuple(args.temperatures) if args.temperatures else None,
    }
    return c.Settings(**{**(SMOKE if args.smoke else {}), **{k: v for k, v in given.items() if v is not None}})


def report(out: Path, cells: c.Cells) -> None:
    """Write the card of all cells that are there, whatever command has made them."""
    done, left_out = cells.finished()
    blocks = []
    for name in dict.fromkeys(cell["rule"] for cell in done):
        rule = cells.recipes.rules[name]
        summary = r.summarise([cell for cell in done if cell["rule"] == name])
        if summary["rows"]:
            blocks.append({"rule": name, "what": rule.what, "model": rule.model, **summary})
    shown = {cell["policy"] for cell in done}
    card = {
        "protocol": protocol(cells.settings),
        "left_out": ["-".join(map(str, cell)) for cell in left_out],
        "rules": blocks,
        "policies": {name: recipe["what"] for name, recipe in cells.recipes.policies.items() if name in shown},
    }
    write_json(out / "card.json", {**plain(card), "cells": done})
    (out / "card.md").write_text(r.markdown(card), encoding="utf-8")
    r.write_csv(out / "card.csv", done)
    if blocks:
        figure = r.draw(blocks)
        for suffix in ("png", "svg"):
            figure.savefig(out / f"{FIGURE}.{suffix}", dpi=150)


def protocol(settings: c.Settings) -> list[str]:
    """How the numbers were made, a line each."""
    largest = max(settings.best_of)
    return [
        f"Rows: {settings.samples} samples from the prior each; ± is the 95 % t-interval over seeds.",
        "Divergence: KL from the model before the rewards, nats per sequence, of pairs of z and sequence; exact in "
        "each token, a mean over the samples. That of sequences alone is at most as large.",
        f"Best of n: of {largest * settings.samples} draws of that model; the divergence is that of the scores, exact "
        "where a score is a yes or no, since among equals chance decides.",
        "Least for this share: below it no policy reaches the share. Best-of-n by a yes or no is exactly there, so no "
        "policy can be better than it, only cheaper to draw from.",
        "Usual bound: log n - (n - 1) / n, with the n (not whole) that gives this share; more than best-of-n "
        "costs where draws score alike.",
        f"Held-out NLL: importance-weighted bound with {settings.importance_samples} draws of z, nats per sequence, "
        f"over at most {settings.sequences} test sequences; exact without z. Of best-of-n exact but for the bound.",
        "Distinct, distinct bigrams: different ones of all samples. Copies: samples that are training sequences.",
        "Training (with the choice of what is learned from), drawing 1,000: CPU seconds.",
    ]


def main(argv: Sequence[str] | None = None, config: Path | None = None, root: Path | None = None) -> int:
    """Run the command; 0, 1 after a step that failed, 2 after bad input, 130 after an interruption.

    Args:
        config: default of --config
        root: where commands are run, and the parent of the default folder (default: the working directory)
    """
    parser = new_parser("reward-card", __doc__, FOLDER, EXAMPLE)
    parser.add_argument("--rules", "--rule", type=names, metavar="NAME,...", help="names in rules.yaml (default: all)")
    parser.add_argument(
        "--policies", type=names, metavar="NAME,...", help="names in policies.yaml, or base (default: all)"
    )
    parser.add_argument("--samples", type=positive, metavar="N", help="samples of each row (default: 1000)")
    parser.add_argument("--best-of", type=numbers, metavar="N,...", help="n of best-of-n (default: 1,2,4,8,16,32)")
    parser.add_argument(
        "--temperatures", type=temperatures, metavar="TAU,...", help="of the model before (default: 0.8,0.6,0.4,0.2)"
    )
    args = parse(parser, argv, config, root, FOLDER, EXAMPLE)
    try:
        args.recipes = Recipes.read(args.config)
    except ValueError as error:
        parser.error(str(error))
    choose(parser, args, rules=[*args.recipes.rules], policies=[BASE, *args.recipes.policies])
    return s.main(body, args)


if __name__ == "__main__":
    sys.exit(main())
