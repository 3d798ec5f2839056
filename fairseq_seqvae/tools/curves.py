"""Draw the curves of a training from the JSON lines that fairseq logs.

    fairseq-train ... --log-format json --log-file train.json
    python -m fairseq_seqvae curves train.json --out curves.png --boundaries 600,700

What fairseq prints on standard output, with its prefixes, can be read as well as the file of --log-file. With several
logs, each is one run, with a colour of its own. A panel whose values are in none of the logs is left out.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fairseq_seqvae.support.files import whole_file

MAX_POINTS_UNSMOOTHED = 40
TURNS = ("pre-training", "discriminator pre-training", "adversarial training")
TURN_TINTS = ("#eef3f8", "#f6ecd9", "#f7e8e8")
RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


class Curve(NamedTuple):
    """One line of a panel: which value it shows and how it looks."""

    split: str  # "train" or "valid"
    key: str
    label: str
    colour: str  # if there is only one log; several logs have a colour each
    style: str


class Panel(NamedTuple):
    title: str
    unit: str
    curves: tuple[Curve, ...]


PANELS = (
    Panel(
        "Loss",
        "nats per sequence",
        (Curve("train", "loss", "training", "#0072b2", "-"), Curve("valid", "loss", "validation", "#d55e00", "o-")),
    ),
    Panel(
        "KL divergence of the posterior from the prior",
        "nats per sequence",
        (Curve("train", "kl", "training", "#0072b2", "-"), Curve("valid", "kl", "validation", "#d55e00", "o-")),
    ),
    Panel(
        "Reconstruction of held-out sequences",
        "share given back",
        (
            Curve("valid", "rec_acc", "tokens", "#0072b2", "o-"),
            Curve("valid", "rec_acc_notes", "notes", "#009e73", "o--"),
            Curve("valid", "rec_acc_other", "tokens, from another sequence's z", "#999999", "o:"),
        ),
    ),
    Panel("Reward", "mean reward", (Curve("train", "reward", "samples of the generator", "#009e73", "-"),)),
    Panel(
        "Accuracy of the discriminator",
        "share judged correctly",
        (
            Curve("train", "d_acc_real", "real sequences", "#0072b2", "-"),
            Curve("train", "d_acc_fake", "generated sequences", "#cc79a7", "--"),
        ),
    ),
    Panel("Entropy of the generator", "nats per token", (Curve("train", "entropy", "generator", "#e69f00", "-"),)),
)

Points = dict[int, dict[str, float]]  # update number -> value by key


class Log(NamedTuple):
    """The points of one log. A point logged again (as after a resume) is kept as it was logged last."""

    name: str
    splits: dict[str, Points]  # "train", "valid"

    def series(self, split: str, key: str) -> tuple[list[int], list[float]]:
        """Return update numbers, ascending, and the values of `key` where it was logged and is finite."""
        points = self.splits[split]
        updates = [update for update in sorted(points) if key in points[update]]
        return updates, [points[update][key] for update in updates]


def parse_line(line: str) -> dict[str, float] | None:
    """Return the finite numbers of the JSON object that ends `line`, or None if there is no such object."""
    start = line.find("{")
    if start < 0:
        return None
    try:
        record = json.loads(line[start:])
    except (ValueError, RecursionError):
        return None
    numbers = {}
    for key, value in record.items():
        try:
            number = float(value)  # fairseq writes most numbers as strings
        except (TypeError, ValueError, OverflowError):
            continue
        if math.isfinite(number):
            numbers[key] = number
    return numbers


def read_log(path: Path, valid_subset: str) -> Log:
    """Read a log; training values come from the lines within epochs, or from the ends of epochs if there are none."""
    within: Points = {}
    epochs: Points = {}
    valid: Points = {}
    prefixes = ((valid, f"{valid_subset}_"), (epochs, "train_"), (within, ""))
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            record = parse_line(line)
            if not record:
                continue
            for points, prefix in prefixes:
                if f"{prefix}num_updates" in record:
                    update = round(record[f"{prefix}num_updates"])
                    points.setdefault(update, {}).update(
                        {key.removeprefix(prefix): value for key, value in record.items() if key.startswith(prefix)}
                    )
                    break
    return Log(path.stem, {"train": within or epochs, "valid": valid})


def moving_mean(values: list[float], width: int) -> list[float]:
    """Return the means over centred windows of `width` values.

    Windows shrink on both sides at the start, where curves are steep, and on the far side at the end.
    """
    means = []
    for i in range(len(values)):
        reach = min(width // 2, i)
        window = values[i - reach : i + reach + 1]
        means.append(sum(window) / len(window))
    return means


def draw(logs: list[Log], boundaries: tuple[int, int] | None, smooth: int | None, title: str | None) -> Any:
    """Return the matplotlib figure; `smooth` is the number of points to average, None to choose it by their number."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    present = [
        panel
        for panel in PANELS
        if any(log.series(curve.split, curve.key)[0] for log in logs for curve in panel.curves)
    ]
    last = max(max(points) for log in logs for points in log.splits.values() if points)
    rows = 1 + math.ceil((len(present) - 1) / 2)
    plt.rcParams.update(
        {"font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left"}
    )
    figure = plt.figure(figsize=(10, 1.1 + 2.6 * rows), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    spans = turn_spans(boundaries, last)
    for index, panel in enumerate(present):
        row, column = (0, 0) if index == 0 else divmod(index + 1, 2)
        alone = index == 0 or (column == 0 and index == len(present) - 1)
        axes = figure.add_subplot(grid[row, :] if alone else grid[row, column])
        for start, end, tint, _ in spans:
            axes.axvspan(start, end, color=tint, linewidth=0, zorder=0)
        draw_panel(axes, panel, logs, smooth)
        dress(axes, panel, last, ticks=8 if alone else 5)
    shown: list[Any] = [
        Patch(facecolor=tint, edgecolor="#bbbbbb", linewidth=0.5, label=name) for *_, tint, name in spans
    ]
    if len(logs) > 1:
        shown += [
            Line2D([], [], color=RUN_COLOURS[i % len(RUN_COLOURS)], linewidth=2, label=log.name)
            for i, log in enumerate(logs)
        ]
    if shown:
        figure.legend(handles=shown, loc="outside lower center", ncols=min(len(shown), 5), frameon=False)
    if title:
        figure.suptitle(title, fontsize=12, fontweight="bold")
    return figure


def draw_panel(axes: Any, panel: Panel, logs: list[Log], smooth: int | None) -> None:
    """Draw the curves of all logs that a panel shows, with a legend if there is more than one kind."""
    from matplotlib.lines import Line2D

    handles = {}
    for number, log in enumerate(logs):
        for curve in panel.curves:
            updates, values = log.series(curve.split, curve.key)
            if not updates:
                continue
            colour = curve.colour if len(logs) == 1 else RUN_COLOURS[number % len(RUN_COLOURS)]
            draw_curve(axes, updates, values, colour, curve.style, smooth)
            line: Any = curve.style.removeprefix("o")
            handles[curve.label] = Line2D(
                [],
                [],
                color=colour if len(logs) == 1 else "#555555",
                linestyle=line,
                marker="o" if curve.style.startswith("o") else None,
                markersize=3.5,
                label=curve.label,
            )
    if len(handles) > 1:
        axes.legend(handles=list(handles.values()), frameon=False, loc="best")


def dress(axes: Any, panel: Panel, last: int, ticks: int) -> None:
    """Title, labels, limits and grid of a panel whose updates reach up to *last*."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if panel.title.startswith("Accuracy"):
        axes.axhline(0.5, color="#888888", linewidth=0.8, linestyle=":", zorder=1)
    if panel.unit.startswith("share"):
        axes.set_ylim(-0.03, 1.03)
    axes.set_title(panel.title)
    axes.set_ylabel(panel.unit)
    axes.set_xlabel("update")
    axes.set_xlim(0, last * 1.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda update, _: f"{update:,.0f}"))
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_curve(axes: Any, updates: list[int], values: list[float], colour: str, style: str, smooth: int | None) -> None:
    """Draw one curve: markers for the few points of validations, else a mean line over the faint raw values."""
    if style.startswith("o"):
        axes.plot(updates, values, style, color=colour, linewidth=1.4, markersize=3.5 if len(values) <= 60 else 0)
        return
    if smooth is None:
        smooth = 1 if len(values) <= MAX_POINTS_UNSMOOTHED else max(3, len(values) // 25)
    marker = "o" if len(values) == 1 else None
    if smooth > 1:
        axes.plot(*with_gaps(updates, values), "-", color=colour, linewidth=0.7, alpha=0.25)
        values = moving_mean(values, smooth)
    axes.plot(*with_gaps(updates, values), style, color=colour, linewidth=1.6, marker=marker, markersize=3.5)


def with_gaps(updates: list[int], values: list[float]) -> tuple[list[float], list[float]]:
    """Put NaN, where matplotlib interrupts the line, into stretches in which the value was not logged.

    Such a stretch is five times as long as the usual distance of two points: the turn of the other player.
    """
    distances = [after - before for before, after in zip(updates, updates[1:], strict=False)]
    longest = 5 * sorted(distances)[len(distances) // 2] if distances else 0
    xs: list[float] = []
    ys: list[float] = []
    for update, value in zip(updates, values, strict=True):
        if xs and update - xs[-1] >= longest:
            xs.append(update)
            ys.append(math.nan)
        xs.append(update)
        ys.append(value)
    return xs, ys


def turn_spans(boundaries: tuple[int, int] | None, last: int) -> list[tuple[float, float, str, str]]:
    """Return (first update, last update, tint, name) of each turn that lasts at least one update."""
    if boundaries is None:
        return []
    edges = (0, *(min(boundary, last) for boundary in boundaries), last * 1.01)
    spans = zip(edges[:-1], edges[1:], TURN_TINTS, TURNS, strict=True)
    return [(start, end, tint, name) for start, end, tint, name in spans if min(end, last) > start]


def parse_boundaries(text: str) -> tuple[int, int]:
    try:
        first, second = (int(part) for part in text.split(","))
    except ValueError:
        first, second = -1, -1
    if not 0 <= first <= second:
        raise argparse.ArgumentTypeError(
            f"'{text}' must be two update numbers, as in 600,700: where the pre-training of the generator and where "
            "that of the discriminator ends"
        )
    return first, second


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fairseq_seqvae curves",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="file with fairseq's JSON log lines")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="picture to write (.png, .pdf, .svg)")
    parser.add_argument("--force", action="store_true", help="overwrite the picture")
    parser.add_argument(
        "--boundaries",
        type=parse_boundaries,
        metavar="G,D",
        help="shade the turns: updates at which the pre-training of the generator and of the discriminator end",
    )
    parser.add_argument(
        "--smooth",
        type=int,
        metavar="N",
        help="average training curves over N logged points (default: by their number)",
    )
    parser.add_argument("--title", help="title above the picture")
    parser.add_argument(
        "--valid-subset", default="valid", metavar="NAME", help="validation subset to show (%(default)s)"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Read, draw, write; raises ValueError or OSError with a sentence for the user."""
    if args.out.exists() and not args.force:
        raise ValueError(f"'{args.out}' exists: give another --out, or --force to overwrite it")
    if args.out.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--out must end in .png, .pdf or .svg but is '{args.out}'")
    if not args.out.absolute().parent.is_dir():
        raise ValueError(f"the folder of --out does not exist: '{args.out.parent}'")
    if args.smooth is not None and args.smooth < 1:
        raise ValueError(f"--smooth must be at least 1 but is {args.smooth}")
    logs = []
    for path in args.logs:
        log = read_log(path, args.valid_subset)
        if not any(log.splits.values()):
            raise ValueError(
                f"'{path}' has no JSON log lines of fairseq: train with `--log-format json --log-file FILE` and a "
                "`--log-interval` that is not larger than the number of updates"
            )
        logs.append(log)
    figure = draw(logs, args.boundaries, args.smooth, args.title)
    with whole_file(args.out) as partial:
        figure.savefig(partial, dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 1 after one sentence about bad input on standard error."""
    args = _parser().parse_args(argv)
    try:
        run(args)
    except KeyboardInterrupt:
        print("plot-curves: interrupted.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"plot-curves: cannot read or write '{error.filename}': {error.strerror}.", file=sys.stderr)
    except ModuleNotFoundError as error:
        print(
            f"plot-curves: the module `{error.name}` is missing: run `scripts/setup-env plot`, activate the "
            "environment whose folder it prints, and try again.",
            file=sys.stderr,
        )
    except ValueError as error:
        print(f"plot-curves: {error}.", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
