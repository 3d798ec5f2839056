"""The cards of two oracles side by side: what holds for one of them may not hold for the other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairseq_seqvae.cards.spreads import Spread, gap, number, table


def read_card(folder: Path) -> dict[str, Any]:
    """The card.json of another card's folder; ValueError if there is none."""
    file = folder / "card.json"
    if not file.is_file():
        raise ValueError(f"--beside {folder} has no card.json: give the folder of a card of another oracle.")
    return json.loads(file.read_text(encoding="utf-8"))


def lines(titles: Sequence[str], cards: Sequence[dict[str, Any]]) -> list[str]:
    """A table for each length that all cards have: temperature 1, the methods of the first one, a group per card.

    Args:
        titles: of the oracles
        cards: content of card.json
    """
    blocks = [{block["length"]: block for block in card["lengths"]} for card in cards]
    shared = [length for length in blocks[0] if all(length in other for other in blocks)]
    found: list[str] = []
    for length in shared:
        header = ["temperature 1"]
        for title in titles:
            header += [f"{title}: oracle NLL", "held-out NLL", "gap to best ML", "gap to mixed temperatures"]
        methods = [summary["method"] for summary in blocks[0][length]["methods"]]
        rows = [[method, *(cell for each in blocks for cell in _cells(each[length], method))] for method in methods]
        found += [f"## T = {length}, {len(cards)} oracles", "", *table(header, rows), ""]
    return found


def _cells(block: dict[str, Any], method: str) -> list[str]:
    summary = next((one for one in block["methods"] if one["method"] == method), None)
    if summary is None:
        return [""] * 4
    point, seeds = next(p for p in summary["points"] if p["temperature"] == 1), len(summary["seeds"])
    gaps = [gap(_spread(point.get(key)), seeds) for key in ("gap", "gap_to_mixed")]
    return [number(_spread(point[key]), 3) for key in ("oracle_nll", "held_out_nll")] + gaps


def _spread(value: Any) -> Spread | None:
    return Spread(**value) if isinstance(value, dict) else value
