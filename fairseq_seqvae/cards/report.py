"""From the cells of the card to its numbers: means over seeds, distance from maximum likelihood, time to quality."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairseq_seqvae.cards.files import write_rows
from fairseq_seqvae.cards.panels import legend, panels, styled
from fairseq_seqvae.cards.references import MIXTURE_WEIGHTS, best_likelihood, mixed_curve, temperature_mixture, value_at
from fairseq_seqvae.cards.spreads import Spread, gap, number, share, spread, table

MAXIMUM_LIKELIHOOD = "ml"
LAST_EVALUATIONS = 5


def first_to_reach(curve: Sequence[dict[str, float]], target: float) -> dict[str, float] | None:
    """The first evaluation at or below *target* from which on the mean of all evaluations is so too; None if none."""
    values = [point["oracle_nll"] for point in curve]
    for i, point in enumerate(curve):
        if values[i] <= target and np.mean(values[i:]) <= target:
            return point
    return None


class Reference(NamedTuple):
    """What methods of one length are compared with, seed by seed.

    Attributes:
        method: the best maximum likelihood, or None
        curves: its points over temperatures
        mixed: points of its line of mixed temperatures
    """

    method: str | None
    curves: dict[int, list[dict[str, float]]]
    mixed: dict[int, list[dict[str, float]]]


def reference(
    cells: list[dict[str, Any]],
    methods: Sequence[str] = (MAXIMUM_LIKELIHOOD,),
    sequences: Callable[[dict[str, Any]], dict[str, np.ndarray]] | None = None,
) -> Reference:
    """The best maximum likelihood among *cells*, of one length.

    Args:
        methods: kinds of maximum likelihood
        sequences: gives sequences.npz of a cell; without it no temperatures are mixed
    """
    best = best_likelihood(cells, methods)
    own = {cell["seed"]: cell for cell in cells if cell["method"] == best}
    curves = {seed: cell["points"] for seed, cell in own.items()}
    mixed = {seed: mixed_curve(sequences(cell), cell["points"]) for seed, cell in own.items()} if sequences else {}
    return Reference(best, curves, mixed)


def summarise(
    cells: list[dict[str, Any]], target: float | None, compared: Reference | None = None
) -> list[dict[str, Any]]:
    """One summary for each method of one length, in the order of the cells.

    Args:
        cells: of one length
        target: oracle NLL whose time is asked for
        compared: what gaps are to; None: the method ml
    """
    compared = compared or reference(cells)
    summaries = []
    for method in dict.fromkeys(cell["method"] for cell in cells):
        own = [cell for cell in cells if cell["method"] == method]
        summary = {"method": method, "length": own[0]["length"], "seeds": [cell["seed"] for cell in own]}
        summary["points"] = [_summarised(own, i, compared) for i in range(len(own[0]["points"]))]
        for key in ("kl", "mutual_information", "active_units", "train_seconds", "d_acc_held_out", "reward_rank"):
            summary[key] = spread([cell[key] for cell in own if key in cell])
        last = [np.mean([point["oracle_nll"] for point in cell["curve"][-LAST_EVALUATIONS:]]) for cell in own]
        summary["last_evaluations_oracle_nll"] = spread([float(value) for value in last])
        if target is not None:
            reached = [first_to_reach(cell["curve"], target) for cell in own]
            summary["target"] = target
            summary["seconds_to_target"] = spread([point["seconds"] for point in reached if point])
        summaries.append(summary)
    return summaries


def _summarised(own: list[dict[str, Any]], i: int, compared: Reference) -> dict[str, Any]:
    """Point *i* of the curve of a method, over its cells *own*."""
    row: dict[str, Any] = {"temperature": own[0]["points"][i]["temperature"]}
    for key in ("oracle_nll", "held_out_nll", "distinct_sequences", "distinct_bigrams"):
        row[key] = spread([cell["points"][i][key] for cell in own])
    for key in ("oracle_nll_standard_error", "held_out_nll_standard_error", "samples", "bigrams"):
        row[key] = float(np.mean([cell["points"][i][key] for cell in own]))
    curves = compared.curves if own[0]["method"] != compared.method else {}
    pairs = [(cell["points"][i], curves[cell["seed"]]) for cell in own if cell["seed"] in curves]
    for key in ("held_out_nll", "distinct_bigrams"):
        found = [value_at(curve, p["oracle_nll"], key) for p, curve in pairs]
        row[f"ml_{key}"] = spread([value for value in found if value is not None])
    row["gap"] = _gap(pairs)
    mixed = [(cell["points"][i], compared.mixed[cell["seed"]]) for cell in own if cell["seed"] in compared.mixed]
    row["gap_to_mixed"] = _gap(mixed)
    return row


def _gap(pairs: list[tuple[dict[str, float], list[dict[str, float]]]]) -> Spread | None:
    """Held-out NLL of points less that of curves at the same oracle NLL."""
    found = [(point["held_out_nll"], value_at(curve, point["oracle_nll"])) for point, curve in pairs]
    return spread([own - other for own, other in found if other is not None])


def mixtures(sequences: dict[int, dict[str, np.ndarray]], curves: dict[int, list]) -> list[dict[str, Any]]:
    """Mixtures of temperatures of the maximum-likelihood model, by weight.

    Args:
        sequences: sequences.npz of each seed
        curves: points of each seed
    """
    rows: list[dict[str, Any]] = []
    if min(next(iter(sequences.values()))["temperatures"]) >= 1:
        return rows  # none is sharp
    for weight in MIXTURE_WEIGHTS:
        found = {seed: temperature_mixture(arrays, weight) for seed, arrays in sequences.items()}
        references = {seed: value_at(curves[seed], row["oracle_nll"]) for seed, row in found.items()}
        pairs = [(row["held_out_nll"], references[seed]) for seed, row in found.items()]
        gaps = [own - other for own, other in pairs if other is not None]
        any_row = next(iter(found.values()))
        rows.append(
            {
                "weight": weight,
                "sharp_temperature": any_row["sharp_temperature"],
                "oracle_nll": spread([row["oracle_nll"] for row in found.values()]),
                "held_out_nll": spread([row["held_out_nll"] for row in found.values()]),
                "gap": spread(gaps),
            }
        )
    return rows


# -- as text --


def markdown(card: dict[str, Any]) -> str:
    """The whole card; the line of mixed temperatures leads."""
    lines = ["# Oracle card", "", card["protocol"], "", *card.get("beside", [])]
    for block in card["lengths"]:
        lines += [f"## T = {block['length']}", ""]
        if block["mixtures"]:
            lines += [*_mixture_table(block), ""]
        lines += [*_method_table(block), "", *_sweep_table(block), "", *_time_table(block), ""]
    return "\n".join(lines)


def _method_table(block: dict[str, Any]) -> list[str]:
    header = ["temperature 1", "seeds", "oracle NLL", "held-out NLL", "gap to best ML", "gap to mixed"]
    header += ["KL", "MI", "active units", "distinct sequences", "distinct bigrams (ML there)", "training, min"]
    header += ["discriminator, held out", "rank of reward"]
    rows = []
    for row in block["baselines"]:
        coverage = _with_error(row, "held_out_nll") if row["held_out_nll"] is not None else "infinite"
        shares = [share(row["distinct_sequences"], row["samples"]), share(row["distinct_bigrams"], row["bigrams"])]
        rows.append(
            [f"*{row['name']}*", "", _with_error(row, "oracle_nll"), coverage] + [""] * 5 + [*shares, "", "", ""]
        )
    for summary in block["methods"]:
        point = next(p for p in summary["points"] if p["temperature"] == 1)
        seconds = summary["train_seconds"]
        minutes = Spread(seconds.mean / 60, seconds.half_width and seconds.half_width / 60, seconds.seeds)
        rows.append(
            [f"**{summary['method']}**", str(len(summary["seeds"]))]
            + [_mean(point, "oracle_nll"), _mean(point, "held_out_nll")]
            + [gap(point[key], len(summary["seeds"])) for key in ("gap", "gap_to_mixed")]
            + [number(summary[key], digits) for key, digits in (("kl", 3), ("mutual_information", 3))]
            + [number(summary["active_units"], 1), share(point["distinct_sequences"].mean, point["samples"])]
            + [_bigrams(point), number(minutes, 1)]
            + [number(summary[key], digits) for key, digits in (("d_acc_held_out", 3), ("reward_rank", 2))]
        )
    notes = "; ".join(f"{row['name']}: {row['what']}" for row in block["baselines"])
    return [*table(header, rows), "", f"Baselines: {notes}."]


def _sweep_table(block: dict[str, Any]) -> list[str]:
    header = ["over temperatures", "temperature", "oracle NLL", "held-out NLL", "ML there", "gap", "distinct sequences"]
    header += ["distinct bigrams (ML there)"]
    rows = [
        [summary["method"], f"{point['temperature']:g}", _mean(point, "oracle_nll"), _mean(point, "held_out_nll")]
        + [number(point["ml_held_out_nll"], 3), gap(point["gap"], len(summary["seeds"]))]
        + [share(point["distinct_sequences"].mean, point["samples"]), _bigrams(point)]
        for summary in block["methods"]
        for point in summary["points"]
    ]
    return table(header, rows)


def _mixture_table(block: dict[str, Any]) -> list[str]:
    sharp = block["mixtures"][0]["sharp_temperature"]
    header = [f"{block['reference']}, each sequence at temperature {sharp:g} or 1", "oracle NLL", "held-out NLL", "gap"]
    rows = [
        [f"{row['weight']:.0%} at {sharp:g}", number(row["oracle_nll"], 3), number(row["held_out_nll"], 3)]
        + [gap(row["gap"], row["oracle_nll"].seeds)]
        for row in block["mixtures"]
    ]
    return table(header, rows)


def _time_table(block: dict[str, Any]) -> list[str]:
    target = block["target"]
    header = ["time to quality", f"oracle NLL, mean of the last {LAST_EVALUATIONS} evaluations"]
    header += [f"minutes until {target:g}", "seeds that reach it"] if target is not None else []
    rows = []
    for summary in block["methods"]:
        row = [summary["method"], number(summary["last_evaluations_oracle_nll"], 3)]
        if target is not None:
            found = summary["seconds_to_target"]
            minutes = f"{found.mean / 60:.1f}" if found else "never"
            row += [minutes, f"{found.seeds if found else 0} of {len(summary['seeds'])}"]
        rows.append(row)
    return table(header, rows)


def _with_error(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:.3f} (s.e. {row[key + '_standard_error']:.3f})"


def _mean(point: dict[str, Any], key: str) -> str:
    """With the interval over seeds, or for a single seed the standard error over sequences."""
    if point[key].half_width is None:
        return f"{point[key].mean:.3f} (s.e. {point[key + '_standard_error']:.3f})"
    return number(point[key], 3)


def _bigrams(point: dict[str, Any]) -> str:
    there = point["ml_distinct_bigrams"]
    reference = f" ({share(there.mean, point['bigrams'])})" if there else ""
    return share(point["distinct_bigrams"].mean, point["bigrams"]) + reference


def write_csv(path: Path, cells: list[dict[str, Any]], baselines: list[dict[str, Any]]) -> None:
    """One line for each method, length, seed and temperature, and for each baseline."""
    kept = ("kl", "mutual_information", "active_units", "train_seconds")
    rows = [
        {key: cell[key] for key in ("method", "length", "seed")} | point | {key: cell[key] for key in kept}
        for cell in cells
        for point in cell["points"]
    ]
    rows += [
        {"method": row["name"], **{key: value for key, value in row.items() if key not in ("name", "what")}}
        for row in baselines
    ]
    write_rows(path, rows)


# -- as pictures --


def draw_quality_and_coverage(blocks: list[dict[str, Any]], targets: dict[int, float]):
    """Oracle NLL of samples against held-out NLL: a panel a length, a curve a method; temperature 1 has a ring."""
    figure, all_axes = panels(blocks)
    for axes, block in zip(all_axes, blocks, strict=True):
        for colour, marker, summary in styled(block, blocks):
            points = sorted(summary["points"], key=lambda point: point["temperature"])
            xs, ys = (np.array([point[key].mean for point in points]) for key in ("oracle_nll", "held_out_nll"))
            x_errors, y_errors = (
                [point[key].half_width or 0.0 for point in points] for key in ("oracle_nll", "held_out_nll")
            )
            axes.errorbar(
                xs,
                ys,
                y_errors,
                x_errors,
                color=colour,
                marker=marker,
                markersize=3.5,
                linewidth=1.6,
                elinewidth=0.8,
                label=summary["method"],
            )
            plain = next(point for point in points if point["temperature"] == 1)
            at = (plain["oracle_nll"].mean, plain["held_out_nll"].mean)
            axes.plot(*at, "o", color=colour, markersize=7, fillstyle="none")
        if block["mixtures"]:
            mixed = [[row[key].mean for row in block["mixtures"]] for key in ("oracle_nll", "held_out_nll")]
            axes.plot(*mixed, "-", color="#222222", linewidth=3, alpha=0.5, label="best ml, mixed temperatures")
        oracle, *others = (row for row in block["baselines"] if row["held_out_nll"] is not None)
        for row in others:
            axes.plot(row["oracle_nll"], row["held_out_nll"], "x", color="black", markersize=6, label=row["name"])
        if block["length"] in targets:
            axes.axvline(targets[block["length"]], color="#bbbbbb", linewidth=1, linestyle=":", label="best published")
        # The oracle itself is far below and left of all: shown, it would leave no room for the rest.
        title = f"T = {block['length']} (oracle: {oracle['oracle_nll']:.2f}, {oracle['held_out_nll']:.2f})"
        axes.set(title=title, xlabel="oracle NLL of samples, nats per token (quality)")
    all_axes[0].set_ylabel("NLL of held-out data, nats per token (coverage)")
    legend(figure, all_axes)
    return figure


def draw_learning(blocks: list[dict[str, Any]], cells: list[dict[str, Any]], targets: dict[int, float]):
    """Oracle NLL of samples at temperature 1 against the time of training, a thin line a seed.

    A stage that is a method of its own is drawn as that alone.
    """
    figure, all_axes = panels(blocks)
    for axes, block in zip(all_axes, blocks, strict=True):
        for colour, marker, summary in styled(block, blocks):
            own = [c for c in cells if (c["method"], c["length"]) == (summary["method"], block["length"])]
            for i, cell in enumerate(own):
                methods = {other["method"] for other in block["methods"]} - {summary["method"]}
                curve = [point for point in cell["curve"] if point["stage"] not in methods]
                minutes = [point["seconds"] / 60 for point in curve]
                values = [point["oracle_nll"] for point in curve]
                label = summary["method"] if i == 0 else None
                axes.plot(minutes, values, color=colour, marker=marker, markersize=2, linewidth=1, label=label)
        if block["length"] in targets:
            axes.axhline(targets[block["length"]], color="#bbbbbb", linewidth=1, linestyle=":", label="best published")
        axes.set(title=f"T = {block['length']}", xlabel="minutes of training")
    all_axes[0].set_ylabel("oracle NLL of samples, nats per token")
    legend(figure, all_axes)
    return figure
