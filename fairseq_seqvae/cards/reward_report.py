"""From the cells of the card of rewards to its numbers, its table and its figure."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairseq_seqvae.cards.best_of import draws_needed, least_divergence, usual_bound
from fairseq_seqvae.cards.files import write_rows
from fairseq_seqvae.cards.panels import COLOURS, legend, panels
from fairseq_seqvae.cards.reward_recipes import BASE
from fairseq_seqvae.cards.spreads import Spread, number, spread, table

KINDS = {"policy": "trained", "best of": "best of n", "temperature": "temperature"}


class Column(NamedTuple):
    """A column of the table: key of :func:`derived`, heading, digits, and what it is multiplied by."""

    key: str
    heading: str
    digits: int
    factor: float = 1.0


COLUMNS = (
    Column("share", "meet the rule, %", 1, 100),
    Column("divergence", "divergence", 2),
    Column("least", "least for this share", 2),
    Column("bound", "usual bound for it", 2),
    Column("draws", "n for it", 1),
    Column("score", "score", 3),
    Column("nll", "held-out NLL", 2),
    Column("distinct", "distinct, %", 1, 100),
    Column("bigrams", "distinct bigrams, %", 1, 100),
    Column("copies", "copies, %", 1, 100),
    Column("train", "training, s", 0),
    Column("draw", "drawing 1,000, s", 2),
)

Values = dict[str, float | None]


def derived(row: Mapping[str, Any], one: float) -> Values:
    """The numbers of a row for one seed; None where there is none.

    Args:
        row: what was measured
        one: share of single draws before the rewards that meet the rule
    """
    share = row["share"]
    draws = draws_needed(one, share)
    return {
        "share": share,
        "divergence": row["divergence"],
        "least": least_divergence(one, share) if share >= one else None,
        "draws": draws,
        "bound": None if draws is None else usual_bound(draws),
        "score": row["score"],
        "nll": row["nll_per_sequence"],
        "distinct": row["distinct_sequences"] / row["samples"],
        "bigrams": row["distinct_bigrams"] / row["bigrams"] if row["bigrams"] else None,
        "copies": row["copies"],
        "train": row.get("train_seconds", 0.0),
        "draw": row["draw_seconds"],
    }


def rows_of(cell: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Kind, name and numbers of the rows that a cell makes."""
    if cell["policy"] != BASE:
        return [("policy", cell["policy"], cell)]
    temperatures = [("temperature", f"temperature {row['temperature']:g}", row) for row in cell["temperatures"]]
    return [("best of", f"best of {row['n']}", row) for row in cell["best_of"]] + temperatures


def summarise(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cells of one rule as rows, each with means over seeds; and the share of single draws that meet the rule.

    Policies of a seed whose model before the rewards is not in the card are left out.
    """
    single = {cell["seed"]: cell["best_of"][0]["share"] for cell in cells if cell["policy"] == BASE}
    found: dict[tuple[str, str], list[tuple[int, Mapping[str, Any], Values]]] = {}
    for cell in cells:
        if cell["seed"] in single:
            for kind, name, row in rows_of(cell):
                own = derived(row, single[cell["seed"]])
                found.setdefault((kind, name), []).append((cell["seed"], row, own))
    kinds = list(KINDS)
    rows = []
    for (kind, name), each in sorted(found.items(), key=lambda item: kinds.index(item[0][0])):
        summary: dict[str, Any] = {"kind": kind, "name": name, "seeds": [seed for seed, _, _ in each]}
        for column in COLUMNS:
            summary[column.key] = spread([v for _, _, own in each if (v := own[column.key]) is not None])
        names = each[0][1]["sources"]
        summary["sources"] = {source: spread([row["sources"][source] for _, row, _ in each]) for source in names}
        summary["resumed"] = any(row.get("resumed") for _, row, _ in each)
        rows.append(summary)
    return {"rows": rows, "one": spread(list(single.values()))}


# -- as text --


def findings(block: Mapping[str, Any]) -> list[str]:
    """How near policies come to the least divergence for what they reach, the farthest first."""
    lines = []
    policies = [row for row in block["rows"] if row["kind"] == "policy" and row["least"]]
    for row in sorted(policies, key=lambda row: row["least"].mean - row["divergence"].mean):
        over = row["divergence"].mean - row["least"].mean
        bound = row["bound"]
        beside = "" if bound is None else f", best-of-n by the usual bound {bound.mean:.2f}"
        lines.append(
            f"- {row['name']}: {row['share'].mean:.1%} at {row['divergence'].mean:.2f} nats; the least for this share "
            f"is {row['least'].mean:.2f} ({over:+.2f}){beside}."
        )
    if any(len(row["seeds"]) == 1 for row in block["rows"]):
        lines.append("- Rows of a single seed have no interval: differences between them may be those of chance.")
    if any(row["resumed"] for row in block["rows"]):
        lines.append("- *: training was interrupted; its time includes a second start, and may lack what was lost.")
    return lines


def markdown(card: Mapping[str, Any]) -> str:
    """The whole card."""
    lines = ["# Card of rewards", "", *(f"- {line}" for line in card["protocol"]), ""]
    if card["left_out"]:
        lines += [f"Not shown, made by other settings or recipes: {', '.join(card['left_out'])}.", ""]
    for block in card["rules"]:
        lines += [f"## {block['rule']}: {block['what']} ({block['model']})", "", *findings(block), ""]
        lines += [*_table(block), "", *_sources(block)]
    lines += ["Policies:", "", *(f"- {name}: {what}" for name, what in card["policies"].items()), ""]
    return "\n".join(lines)


def _table(block: Mapping[str, Any]) -> list[str]:
    rows = []
    for row in block["rows"]:
        texts = [_entry(row[column.key], column) for column in COLUMNS]
        star = "*" if row["resumed"] else ""
        rows.append([f"**{row['name']}**{star}", str(len(row["seeds"])), *texts])
    return table(["", "seeds", *(column.heading for column in COLUMNS)], rows)


def _entry(value: Spread | None, column: Column) -> str:
    if value is None:
        return "-"
    width = None if value.half_width is None else value.half_width * column.factor
    return number(Spread(value.mean * column.factor, width, value.seeds), column.digits)


def _sources(block: Mapping[str, Any]) -> list[str]:
    """Where several rewards make the score: the mean of each."""
    names = list(block["rows"][0]["sources"]) if block["rows"] else []
    if len(names) < 2:
        return []
    rows = [[f"**{row['name']}**", *(number(row["sources"][name], 3) for name in names)] for row in block["rows"]]
    return [*table(["mean of each reward", *names], rows), ""]


def write_csv(path: Path, cells: Sequence[Mapping[str, Any]]) -> None:
    """One line for each row and seed."""
    lines = []
    for cell in cells:
        for kind, name, row in rows_of(cell):
            plain = {key: value for key, value in row.items() if isinstance(value, int | float) or value is None}
            sources = {f"mean of {source}": value for source, value in row["sources"].items()}
            own = {"rule": cell["rule"], "kind": kind, "name": name, "seed": cell["seed"]}
            lines.append({**plain, **sources, **own})
    write_rows(path, lines, first=("rule", "kind", "name", "seed"))


# -- as a picture --


def draw(blocks: list[dict[str, Any]]) -> Any:
    """Share that meets the rule against divergence: a panel a rule; lines for policies, best-of-n, temperature."""
    figure, row = panels(blocks, height=5.2)
    for axes, block in zip(row, blocks, strict=True):
        for colour, (kind, label) in zip(COLOURS, KINDS.items(), strict=False):
            points = [each for each in block["rows"] if each["kind"] == kind]
            points.sort(key=lambda each: each["divergence"].mean)
            if points:
                axes.errorbar(
                    [each["divergence"].mean for each in points],
                    [100 * each["share"].mean for each in points],
                    [100 * (each["share"].half_width or 0.0) for each in points],
                    [each["divergence"].half_width or 0.0 for each in points],
                    color=colour,
                    marker="os^"[list(KINDS).index(kind)],
                    markersize=5,
                    linewidth=1,
                    elinewidth=0.8,
                    label=label,
                )
        for style, label, line in _lines(block["one"].mean):
            axes.plot(*line, color="#777777", linewidth=1, linestyle=style, label=label)
        axes.set(title=f"{block['rule']}: {block['what']}", xlabel="divergence from the reference, nats per sequence")
        axes.set_ylim(0, 102)
    row[0].set_ylabel("sequences that meet the rule, %")
    legend(figure, row)
    return figure


def _lines(one: float) -> list[tuple[str, str, tuple[list[float], list[float]]]]:
    """The least divergence of each share, and best-of-n by the usual bound."""
    if not 0 < one < 1:
        return []
    shares = np.linspace(one, 0.999, 200).tolist()
    curves: list[tuple[str, str, Callable[[float], float | None]]] = [
        ("-", "least divergence (best of n, exactly)", lambda share: least_divergence(one, share)),
        (":", "log n - (n - 1) / n", lambda share: usual_bound(draws_needed(one, share) or math.inf)),
    ]
    found = []
    for style, label, curve in curves:
        points = [(value, 100 * share) for share in shares[1:] if (value := curve(share)) is not None]
        found.append((style, label, ([x for x, _ in points], [y for _, y in points])))
    return found
