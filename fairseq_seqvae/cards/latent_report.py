"""From the cells of the card of latents to its numbers: distance from the language model, means over seeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairseq_seqvae.cards.files import write_rows
from fairseq_seqvae.cards.latent_cells import REAL
from fairseq_seqvae.cards.latent_recipes import LANGUAGE_MODEL, PLAIN
from fairseq_seqvae.cards.panels import legend, panels, styled
from fairseq_seqvae.cards.spreads import Spread, gap, number, spread, table

COLLAPSED = 0.1  # nats of mutual information below which the latent counts as unused
NEAR_CEILING = 0.9  # of ln(sequences): above this share an estimate of the mutual information says "at least"

Values = dict[str, float | None]
Compared = tuple[str, dict[str, Any], Spread]


class Column(NamedTuple):
    """A column of the table: key of :func:`derived`, heading, digits."""

    key: str
    heading: str
    digits: int


LATENT_COLUMNS = (
    Column("nll", "NLL", 2),
    Column("gap", "gap to LM", 2),
    Column("reconstruction", "reconstruction", 2),
    Column("kl", "KL", 2),
    Column("information", "MI", 2),
    Column("information_bound", "MI bound", 2),
    Column("active", "active units", 1),
)
OUTPUT_COLUMNS = (
    Column("accuracy", "greedy accuracy", 3),
    Column("tokens", "of all tokens", 3),
    Column("whole", "whole", 3),
    Column("bleu", "BLEU", 1),
    Column("different", "different", 3),
    Column("judge", "judge", 3),
    Column("in_one_scale", "in one scale", 3),
    Column("bar_returns", "a bar returns", 3),
    Column("copies", "copies", 3),
    Column("reverse_perplexity", "reverse perplexity", 2),
    Column("self_bleu", "self-BLEU", 1),
    Column("distinct_bigrams", "distinct bigrams", 3),
    Column("time", "time", 2),
)
TRUTH_COLUMNS = (
    Column("kl_share", "KL / true MI", 2),
    Column("information_share", "MI / true MI", 2),
    Column("bound_gap", "bound below truth", 3),
)


def derived(cell: Mapping[str, Any], lm: Mapping[str, Any] | None, plain: Mapping[str, Any] | None) -> Values:
    """The numbers of a row for one seed; None where there is none.

    Args:
        cell: what was measured
        lm: the language model on the same data with the same seed, if it is there
        plain: the plain VAE, likewise
    """
    has_latent = bool(cell.get("latent_dim"))
    found: Values = {
        "gap": None,
        "nll": cell.get("nll_per_sequence"),
        "reverse_perplexity": math.exp(cell["reverse_nll"]) if "reverse_nll" in cell else None,
        "self_bleu": cell.get("self_bleu"),
        "distinct_bigrams": cell["distinct_bigrams"] / cell["bigrams"] if cell.get("bigrams") else None,
    }
    if lm and lm is not cell and "nll_per_sequence" in cell:
        found["gap"] = cell["nll_per_sequence"] - lm["nll_per_sequence"]
    own_time, its_time = cell.get("cpu_seconds"), plain.get("cpu_seconds") if plain else None
    found["time"] = own_time / its_time if own_time and its_time else None
    found["bound_gap"] = cell.get("bound_gap")
    of_latent = {
        "kl": "kl",
        "information": "mutual_information",
        "information_bound": "mutual_information_bound",
        "active": "active_units",
        "bleu": "rec_bleu",
        "whole": "rec_exact",
        "different": "rec_distinct",
        "kl_share": "kl_share",
        "information_share": "mutual_information_share",
    }
    found |= {key: cell.get(name) if has_latent else None for key, name in of_latent.items()}
    found["accuracy"] = cell.get("rec_acc_notes", cell.get("rec_acc")) if has_latent else None
    found["tokens"] = cell.get("rec_acc") if has_latent and "rec_acc_notes" in cell else None
    of_draws = {"judge": "accuracy", "in_one_scale": "in_one_scale", "bar_returns": "bar_returns", "copies": "copies"}
    found |= {key: cell.get(f"draws_{name}") for key, name in of_draws.items()}
    found["reconstruction"] = -cell["elbo_per_sequence"] - cell["kl"] if has_latent else None
    return found


def paired_error(cell: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """Standard error over sequences of the difference of two mean likelihoods; None if they are of other sequences."""
    own, its = cell.get("log_likelihood", []), other.get("log_likelihood", [])
    if len(own) != len(its) or len(own) < 2:
        return None
    return float(np.std(np.subtract(own, its), ddof=1) / math.sqrt(len(own)))


def summarise(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One summary for each method of one data set, in the order of the cells: a mean over seeds for each column."""
    by_place = {(cell["method"], cell["seed"]): cell for cell in cells}
    summaries = []
    for method in dict.fromkeys(cell["method"] for cell in cells):
        own = [cell for cell in cells if cell["method"] == method]
        values = []
        for cell in own:
            lm, plain = (by_place.get((other, cell["seed"])) for other in (LANGUAGE_MODEL, PLAIN))
            values.append(derived(cell, lm, plain))
        summary: dict[str, Any] = {"method": method, "seeds": [cell["seed"] for cell in own]}
        for column in (*LATENT_COLUMNS, *TRUTH_COLUMNS, *OUTPUT_COLUMNS):
            summary[column.key] = spread([v for each in values if (v := each[column.key]) is not None])
        summary["latent_dim"] = own[0].get("latent_dim", 0)
        ceilings = [cell.get("mutual_information_ceiling", math.inf) for cell in own]
        found = [cell.get("mutual_information", 0.0) for cell in own]
        summary["near_ceiling"] = any(f > NEAR_CEILING * c for f, c in zip(found, ceilings, strict=True))
        summary["resumed"] = any(cell.get("resumed") for cell in own)
        lm = by_place.get((LANGUAGE_MODEL, own[0]["seed"]))
        # Of a single seed: over sequences, which says nothing about other seeds.
        summary["gap_error"] = paired_error(own[0], lm) if lm and len(own) == 1 else None
        summaries.append(summary)
    return summaries


def twins(cells: Sequence[Mapping[str, Any]], pairs: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a method changes in its twin, seed by seed: differences of NLL, mutual information, reverse perplexity.

    Args:
        cells: of one data set
        pairs: method -> its twin
    """
    values = {(cell["method"], cell["seed"]): derived(cell, None, None) for cell in cells}
    rows = []
    for method, twin in pairs.items():
        seeds = [seed for name, seed in values if name == method and (twin, seed) in values]
        row: dict[str, Any] = {"method": method, "twin": twin, "seeds": seeds}
        for key in ("nll", "information", "reverse_perplexity", "self_bleu"):
            both = [(values[method, seed][key], values[twin, seed][key]) for seed in seeds]
            row[key] = spread([a - b for a, b in both if a is not None and b is not None])
        if seeds:
            rows.append(row)
    return rows


# -- as text --


def findings(block: Mapping[str, Any]) -> list[str]:
    """What a reader must not overlook, the inconvenient things first."""
    summaries = [row for row in block["methods"] if row["method"] not in (LANGUAGE_MODEL, REAL)]
    lines = [_worse_than_lm(summaries), _unused(summaries), _worse_samples(block["methods"])] if summaries else []
    lines.append(_of_real_sequences(block["held_out"]))
    for row in block["twins"]:
        lines.append(
            f"{row['method']} less {row['twin']} ({_seeds(row['seeds'])}): MI {gap(row['information'], 0)}, NLL "
            f"{gap(row['nll'], 0)}, reverse perplexity {gap(row['reverse_perplexity'], 0)}, self-BLEU "
            f"{gap(row['self_bleu'], 0)}. {_verdict(row['information'])}"
        )
    if any(len(row["seeds"]) == 1 for row in block["methods"]):
        lines.append("Rows of a single seed have no interval: differences between them may be those of chance.")
    if any(row["resumed"] for row in block["methods"]):
        lines.append("*: training was interrupted; its time includes a second start, and may lack what was lost.")
    return [f"- {line}" for line in lines if line]


def _worse_than_lm(summaries: Sequence[Mapping[str, Any]]) -> str:
    compared = [row for row in summaries if row["gap"]]
    if not compared:
        return "No distance from the language model: lm is missing for these seeds."
    worse = [f"{row['method']} ({_gap_to_lm(row)})" for row in compared if row["gap"].mean > 0]
    listed = ", ".join(worse) or "none"
    return f"Higher NLL than the language model, {len(worse)} of {len(compared)} methods: {listed}."


def _unused(summaries: Sequence[Mapping[str, Any]]) -> str:
    names = [row["method"] for row in summaries if row["information"] and row["information"].mean < COLLAPSED]
    return f"Latent unused (MI below {COLLAPSED:g} nats): {', '.join(names) or 'none'}."


def _worse_samples(rows: Sequence[Mapping[str, Any]]) -> str:
    by_name = {row["method"]: row["reverse_perplexity"] for row in rows if row["reverse_perplexity"]}
    lm = by_name.pop(LANGUAGE_MODEL, None)
    by_name.pop(REAL, None)
    if not lm or not by_name:
        return ""
    worse = [f"{name} ({value.mean:.2f})" for name, value in by_name.items() if value.mean > lm.mean]
    return (
        f"Higher reverse perplexity than the language model's samples ({lm.mean:.2f}), {len(worse)} of {len(by_name)} "
        f"methods: {', '.join(worse) or 'none'}."
    )


def _of_real_sequences(held_out: Mapping[str, float]) -> str:
    """What the figures of draws stand beside."""
    names = {
        "in_one_scale": "wholly in one scale",
        "bar_returns": "with a bar that returns",
        "copies": "copies of train",
    }
    told = [f"{held_out[name]:.1%} {what}" for name, what in names.items() if name in held_out]
    return f"Of the held-out sequences themselves: {', '.join(told)}." if told else ""


def _verdict(change: Spread | None) -> str:
    if change is None or change.half_width is None:
        return "One seed does not tell a gain from chance."
    if abs(change.mean) <= change.half_width:
        return "The interval of the MI includes 0."
    return "The MI is higher than the twin's." if change.mean > 0 else "The MI is lower than the twin's."


def _seeds(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def _gap_to_lm(row: Mapping[str, Any]) -> str:
    error = f" (s.e. {row['gap_error']:.2f})" if row["gap_error"] is not None and row["gap"] else ""
    return gap(row["gap"], len(row["seeds"]), 2) + error


def markdown(card: Mapping[str, Any]) -> str:
    """The whole card."""
    lines = ["# Card of latents", "", *(f"- {line}" for line in card["protocol"]), ""]
    if card["left_out"]:
        lines += [f"Not shown, made by other settings or recipes: {', '.join(card['left_out'])}.", ""]
    for block in card["data_sets"]:
        lines += [f"## {block['data_set']}", "", *findings(block), "", *_tables(block), ""]
        if block["truth"]:
            lines += [
                f"Truth: -log p(x) {block['truth']['nll']:.3f}, mutual information "
                f"{block['truth']['information']:.3f} nats per sequence.",
                "",
            ]
    lines += ["Methods:", "", *(f"- {name}: {what}" for name, what in card["methods"].items()), ""]
    return "\n".join(lines)


def _tables(block: Mapping[str, Any]) -> list[str]:
    found = LATENT_COLUMNS + (TRUTH_COLUMNS if block["truth"] else ())
    return [
        *_table(block, "likelihood and latent", found),
        "",
        *_table(block, "reconstruction, samples, time", OUTPUT_COLUMNS),
    ]


def _table(block: Mapping[str, Any], what: str, columns: Sequence[Column]) -> list[str]:
    """Rows that have something to say in these columns."""
    columns = [column for column in columns if any(row[column.key] for row in block["methods"])]
    rows = [
        [f"**{row['method']}**", str(len(row["seeds"])), *(_entry(row, column) for column in columns)]
        for row in block["methods"]
        if any(row[column.key] for column in columns)
    ]
    return table([what, "seeds", *(column.heading for column in columns)], rows)


def _entry(row: Mapping[str, Any], column: Column) -> str:
    value: Spread | None = row[column.key]
    if column.key == "gap":
        return _gap_to_lm(row) if value else "-"
    text = number(value, column.digits)
    if value and column.key == "information" and row["near_ceiling"]:
        return f"≥ {text}"
    if value and column.key == "active":
        return f"{text} of {row['latent_dim']}"
    return f"{text}*" if value and column.key == "time" and row["resumed"] else text


def write_csv(path: Path, cells: Sequence[Mapping[str, Any]]) -> None:
    """One line for each data set, method and seed: what was measured, and the columns of the card."""
    by_place = {(cell["data_set"], cell["method"], cell["seed"]): cell for cell in cells}
    rows = []
    for cell in cells:
        lm, plain = (by_place.get((cell["data_set"], other, cell["seed"])) for other in (LANGUAGE_MODEL, PLAIN))
        measured = {name: value for name, value in cell.items() if not isinstance(value, list)}
        rows.append({**measured, **derived(cell, lm, plain)})
    write_rows(path, rows)


# -- as pictures --


def draw_frontier(blocks: list[dict[str, Any]]) -> Any:
    """What greedy decoding gives back against how well a judge tells draws: right and low is good."""
    figure, row = panels(blocks, height=5.6)
    for axes, block in zip(row, blocks, strict=True):
        for colour, marker, summary in styled(block, blocks):
            given, told = summary["accuracy"], summary["judge"]
            if given and told:
                widths = told.half_width or 0.0, given.half_width or 0.0
                line = {"color": colour, "marker": marker, "markersize": 5, "linestyle": "", "elinewidth": 0.8}
                axes.errorbar(given.mean, told.mean, *widths, label=summary["method"], **line)
        axes.set(title=block["data_set"], xlabel="greedy accuracy (melodies: notes), held-out data", xlim=(0, 1))
        axes.axhline(0.5, color="#777777", linewidth=1, linestyle="--", label="judge is blind")
    row[0].set_ylabel("accuracy of a judge of draws")
    legend(figure, row, columns=3)
    return figure


def draw(blocks: list[dict[str, Any]]) -> Any:
    """NLL against mutual information: a panel a data set, a point a method, a line for the LM.

    Intervals of few seeds are wide: they may reach beyond the panel, whose limits are those of the means.
    """
    figure, row = panels(blocks, height=5.6)
    for axes, block in zip(row, blocks, strict=True):
        means: list[tuple[float, float]] = []
        for colour, marker, summary in styled(block, blocks):
            nll, information = summary["nll"], summary["information"]
            if summary["method"] == LANGUAGE_MODEL and nll:
                axes.axhline(nll.mean, color="#777777", linewidth=1, linestyle="--", label="lm")
                means.append((0.0, nll.mean))
            if not nll or not information:
                continue
            means.append((information.mean, nll.mean))
            axes.errorbar(
                information.mean,
                nll.mean,
                nll.half_width or 0.0,
                information.half_width or 0.0,
                color=colour,
                marker=marker,
                markersize=5,
                linestyle="",
                elinewidth=0.8,
                label=summary["method"],
            )
        limits = {
            name: _limits(values) for name, values in zip(("xlim", "ylim"), zip(*means, strict=True), strict=False)
        }
        axes.set(title=block["data_set"], xlabel="mutual information, nats per sequence", **limits)
    row[0].set_ylabel("NLL of held-out data, nats per sequence")
    legend(figure, row, columns=3)
    return figure


def _limits(values: Sequence[float]) -> tuple[float, float]:
    margin = 0.1 * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin
