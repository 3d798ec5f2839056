"""Figures with a panel for each block of a card, and the same colours for a method in all of them."""

from collections.abc import Iterator
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5e3c99", "#b2182b", "#8c510a", "#808000")
MARKERS = ("o", "s", "^", "D")  # the next one when the colours repeat


def panels(blocks: list[dict[str, Any]], height: float = 4.8) -> tuple[Any, Any]:
    """A figure, *height* inches high, and its panels, one a block."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 4.3 * len(blocks), height), layout="constrained")
    row = figure.subplots(1, len(blocks), squeeze=False)[0]
    for axes in row:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, row


def styled(block: dict[str, Any], blocks: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Colour, marker and summary of each method of a panel: the same in all panels and of no other method."""
    names = list(dict.fromkeys(summary["method"] for each in blocks for summary in each["methods"]))
    styles = [(colour, marker) for marker in MARKERS for colour in COLOURS]
    for summary in sorted(block["methods"], key=lambda summary: names.index(summary["method"])):
        yield *styles[names.index(summary["method"]) % len(styles)], summary


def legend(figure: Any, panels: Any, columns: int = 2) -> None:
    """One legend below all panels, with so many columns for each of them."""
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=columns * len(panels),
        frameon=False,
        fontsize=9,
    )
