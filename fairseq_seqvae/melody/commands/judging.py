"""The command `judge`: what samples are like beside real melodies."""

import argparse
import json
import math
from pathlib import Path

import numpy as np

from fairseq_seqvae.melody import judge_plot, judges, windows
from fairseq_seqvae.melody.commands.shared import add_grid_option, command, meter, print_lines
from fairseq_seqvae.melody.judges import Verdict
from fairseq_seqvae.melody.samples import read_samples
from fairseq_seqvae.melody.tunes import bar_steps
from fairseq_seqvae.support.command_line import Commands, positive, refuse_existing
from fairseq_seqvae.support.files import whole_file

_REAL = "real"
_MOST_COLUMNS = 8


def run_judge(args: argparse.Namespace) -> None:
    """Measure each file, and the held-out data beside."""
    outputs = [Path(name) for name in (args.json, args.plot) if name]
    refuse_existing(outputs, args.force)
    if args.plot and Path(args.plot).suffix.lower() not in judge_plot.SUFFIXES:
        raise ValueError(f"--plot {args.plot} must end in {' or '.join(judge_plot.SUFFIXES)}")
    if len(set(args.files)) < len(args.files) or len(args.files) > _MOST_COLUMNS:
        raise ValueError(f"give 1 to {_MOST_COLUMNS} different files to judge")
    steps = _steps_per_bar(args)
    train, held_out, where = _real_data(Path(args.against))
    verdicts: dict[str, Verdict] = {}
    for name in args.files:
        samples, left_out = read_samples(name, "T" if args.targets else "D", args.limit, with_silent=True)
        print_lines(f"{name}: {sentence}" for sentence in left_out)
        verdicts[name] = judges.judge([sample.tokens for sample in samples], train, steps)
    real = judges.judge(held_out, train, steps)
    if where == args.against:  # one file, which is its own train
        real.values.update(dict.fromkeys(("COPY", "RUN", "RUN max"), math.nan))
    print(f"{_REAL}: {len(held_out)} melodies of {where}; train: {len(train)} melodies; {steps} steps per bar")
    _print_table(verdicts, real)
    if args.json:
        _write_json(args.json, steps, verdicts, real, where, len(train))
    if args.plot:
        Path(args.plot).parent.mkdir(parents=True, exist_ok=True)
        judge_plot.plot_verdicts({_short(name): verdict for name, verdict in verdicts.items()}, real, args.plot)
    if outputs:
        print(f"written: {', '.join(map(str, outputs))}")


def _steps_per_bar(args: argparse.Namespace) -> int:
    """As --meter says, or else as the windows of --against were cut, or else of 4/4."""
    if args.meter is None:
        data = Path(args.against)
        known = windows.read_steps_per_bar(data if data.is_dir() else data.parent)
        if known is not None:
            return known
    return bar_steps(args.meter or (4, 4), args.steps_per_quarter)


def _real_data(path: Path) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """The training melodies, held-out ones, and where these are from."""
    if path.is_file():
        lines = _lines(path)
        return lines, lines, str(path)
    train, *held_out = windows.split_paths(path)
    if not train.is_file():
        raise ValueError(
            f"--against {path} must be a folder with {train.name} and test.txt, as `from` and `windows` write them, or "
            "a file of token lines"
        )
    for other in reversed(held_out):
        if other.is_file() and other.stat().st_size:
            return _lines(train), _lines(other), str(other)
    raise ValueError(f"--against {path} has no held-out melodies: its test.txt and valid.txt are missing or empty")


def _lines(path: Path) -> list[np.ndarray]:
    samples, left_out = read_samples(path, "T", with_silent=True)
    if left_out:
        raise ValueError(f"{path}: {left_out[0]}")
    return [sample.tokens for sample in samples]


def _print_table(verdicts: dict[str, Verdict], real: Verdict) -> None:
    """A line per measure: the files with the standard errors of the means, the real melodies, what it is."""
    columns = {**{_short(name): verdict for name, verdict in verdicts.items()}, _REAL: real}
    rows = [("", *columns, "")]
    rows.append(("melodies", *(str(verdict.count) for verdict in columns.values()), ""))
    for name, unit, what in _measures():
        cells = [_cell(verdict, name) for verdict in columns.values()]
        rows.append((name, *cells, f"{what}, {unit}" if unit else what))
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns) + 1)]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:], strict=True)), row[-1]]
        print("  ".join(cells).rstrip())
    print("Higher is not better: melodies like real ones have figures like those of the column `real`.")


def _short(name: str) -> str:
    """The end of a path, for a narrow column."""
    return name if len(name) <= 24 else str(Path(*Path(name).parts[-2:]))


def _cell(verdict: Verdict, name: str) -> str:
    value, error = verdict.values[name], verdict.errors.get(name, math.nan)
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" + ("" if math.isnan(error) else f" ±{error:.2f}")


def _measures() -> list[tuple[str, str, str]]:
    of_one = [(measure.name, measure.unit, measure.what) for measure in judges.MEASURES]
    return of_one + [(name, unit, what) for name, (unit, what) in judges.SET_MEASURES.items()]


def _write_json(path: str, steps: int, verdicts: dict[str, Verdict], real: Verdict, where: str, count: int) -> None:
    content = {
        "steps_per_bar": steps,
        "train": {"melodies": count},
        "measures": {name: {"unit": unit, "what": what} for name, unit, what in _measures()},
        "real": {"file": where, **_plain(real)},
        "files": {name: _plain(verdict) for name, verdict in verdicts.items()},
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _plain(verdict: Verdict) -> dict:
    def known(values: dict[str, float]) -> dict[str, float | None]:
        return {name: None if math.isnan(value) else value for name, value in values.items()}

    return {
        "melodies": verdict.count,
        "values": known(verdict.values),
        "standard_errors": known(verdict.errors),
        "standard_deviations": known(verdict.spreads),
        "note_lengths": verdict.lengths,
        "intervals": verdict.intervals,
    }


def add_judge(commands: Commands) -> None:
    """Add `judge`."""
    added = command(
        commands,
        "judge",
        run_judge,
        "figures of samples beside those of real melodies, and how much of them is copied",
        "judge generate-test.txt --against outputs/melody/bars4 --plot judge.png",
    )
    added.add_argument(
        "files", nargs="+", metavar="FILE", help="output of fairseq-generate, or token lines; a column of figures each"
    )
    added.add_argument(
        "--against",
        required=True,
        metavar="DATA",
        help="folder with the train.txt that the model learned from and the test.txt that it did not; or one file",
    )
    added.add_argument("--targets", action="store_true", help="take the T- lines (the data), not the D- lines")
    added.add_argument("--limit", type=positive, metavar="N", help="only the first N melodies of each file")
    added.add_argument(
        "--meter", type=meter, help="for the bars (default: as the windows of --against were cut, or else 4/4)"
    )
    add_grid_option(added)
    added.add_argument("--json", metavar="FILE", help="write all figures and histograms here, too")
    added.add_argument("--plot", metavar="FILE", help="write a picture here, .png or .svg")
