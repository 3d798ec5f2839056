"""What the card is made of: a method at a length with a seed, trained by fairseq's commands, then measured.

Every finished part leaves a file that is written as a whole or not at all; what is there already is not made again.
"""

import json
import os
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairseq_seqvae.cards.baselines import baselines
from fairseq_seqvae.cards.files import once, write_json
from fairseq_seqvae.cards.oracle_measures import Measuring, oracle_samples, progress, said_of_rewards
from fairseq_seqvae.cards.oracle_settings import PAPER_SEED, Settings
from fairseq_seqvae.oracle.model import estimate
from fairseq_seqvae.rewards.sources import join_sources
from fairseq_seqvae.runs import steps as s

DATA_SEED = 1
# Rewards of recipes that know the oracle name that of the paper: it is replaced by that of the card.
_PAPERS_REWARD = f"oracle:{PAPER_SEED}"

# With --smoke, options of a stage are lowered to these where its YAML file has them.
SMOKE_LIMITS = {
    "task.gen_pretrain_updates": 20,
    "task.disc_pretrain_updates": 5,
    "criterion.num_rollouts": 2,
    "optimization.max_epoch": 2,
    "optimization.max_update": 30,
    "dataset.validate_interval_updates": 15,
    "checkpoint.save_interval_updates": 10,
    "common.log_interval": 10,
}


class Cell(NamedTuple):
    """A method at a length with a seed of training and sampling."""

    method: str
    length: int
    seed: int


class Stage(NamedTuple):
    """A finished stage of training.

    Attributes:
        name: of its YAML file
        folder: its log, its checkpoints and curve.json
        checkpoint: the one that training continues from
        start: the checkpoint that it began with, if any
    """

    name: str
    folder: Path
    checkpoint: Path
    start: Path | None


def read_methods(config: Path) -> dict[str, Any]:
    """The file methods.yaml of the folder *config*; ValueError if there is none."""
    file = config / "methods.yaml"
    if not file.is_file():
        raise ValueError(f"--config {config} has no methods.yaml: give a folder such as examples/oracle/config.")
    return s.read_yaml(file, groups=False)


class Cells:
    """Makes the cells of a card in one folder.

    Args:
        out: folder of the card; T20/data, T20/train/STAGE-SEED, T20/measure/METHOD-SEED are in it
        settings: what all cells have in common
        config: folder with methods.yaml and a YAML file per stage
        root: where commands are run
        training: options of all stages instead of those of their YAML files, "group.key" -> value
    """

    def __init__(self, out: Path, settings: Settings, config: Path, root: Path, training: dict[str, str] | None = None):
        self.out = out
        self.training = training or {}
        self.config = config
        self.steps = s.Steps(out, root)
        self.settings = settings
        self.recipes = read_methods(config)
        self.oracle = settings.oracle()
        self._made: set[Cell] = set()  # or found finished, by this process

    def make_data(self, length: int) -> Path:
        """Draw and binarise the data of a length."""
        folder = self.out / f"T{length}"
        steps, text, data = s.Steps(folder, self.steps.root, self.steps), folder / "text", folder / "data"
        sizes = [word for split, size in self.settings.sizes for word in (f"--{split}", str(size))]
        generate: list[str | Path] = [sys.executable, "-m", "fairseq_seqvae.oracle", "generate"]
        steps.run(
            "draw the data",
            [*generate, *self.settings.oracle_flags, "--length", str(length), "--data-seed", str(DATA_SEED)]
            + [*sizes, "--out", text, "--force"],
            inputs=[Path(self.settings.npz)] if self.settings.npz else [],
        )
        splits = [part for split, _ in self.settings.sizes for part in (f"--{split}pref", text / f"{split}.txt")]
        preprocess: list[str | Path] = ["fairseq-preprocess", "--only-source", "--srcdict", text / "dict.txt"]
        steps.run("binarise the data", [*preprocess, "--destdir", data, *splits])
        return data

    def baselines(self, length: int) -> list[dict[str, Any]]:
        """Rows of the card that no model was trained for."""
        settings, folder = self.settings, self.out / f"T{length}"

        def make() -> dict[str, Any]:
            print(f"  baselines of T {length}", flush=True)
            return {"rows": baselines(self.oracle, folder / "text", length, settings.draws, settings.held_out)}

        return once(folder / "baselines.json", asdict(settings), make)["rows"]

    def sequences(self, cell: dict[str, Any]) -> dict[str, np.ndarray]:
        """Values of each sequence of a finished cell."""
        return dict(np.load(self._measure_folder(Cell(cell["method"], cell["length"], cell["seed"])) / "sequences.npz"))

    def _measure_folder(self, cell: Cell) -> Path:
        return self.out / f"T{cell.length}" / "measure" / f"{cell.method}-{cell.seed}"

    def _stage_folder(self, stage: str, cell: Cell) -> Path:
        return self.out / f"T{cell.length}" / "train" / f"{stage}-{cell.seed}"

    def _checkpoint(self, stage: str, cell: Cell) -> Path:
        """The one that training continues from."""
        name = self.recipes["checkpoints"].get(stage, "checkpoint_last.pt")
        return self._stage_folder(stage, cell) / "checkpoints" / name

    def finished(self) -> list[Cell]:
        """Cells in the folder that are complete and were made with the same settings, by method, length and seed."""
        settings = json.loads(json.dumps(asdict(self.settings)))
        found = []
        for file in self.out.glob("T*/measure/*/measured.json"):
            method, _, seed = file.parent.name.rpartition("-")
            if method not in self.recipes["methods"]:
                continue
            cell = Cell(method, int(file.parents[2].name[1:]), int(seed))
            made_with = json.loads(file.read_text(encoding="utf-8"))["made_with"]
            stages = self.recipes["methods"][method]
            complete = all(self._curve(stage, cell)["complete"] for stage in stages)
            if complete and made_with.items() >= settings.items():
                # Training a stage again makes what came of the former one out of date.
                times = [self._checkpoint(stage, cell).stat().st_mtime for stage in stages]
                if cell in self._made or (times == sorted(times) and times[-1] == made_with["trained"]):
                    found.append(cell)
        methods = list(self.recipes["methods"])
        return sorted(found, key=lambda cell: (methods.index(cell.method), cell.length, cell.seed))

    def read(self, cell: Cell) -> dict[str, Any]:
        """What the card says of a finished cell."""
        measured = json.loads((self._measure_folder(cell) / "measured.json").read_text(encoding="utf-8"))
        del measured["made_with"]
        curve, seconds = [], 0.0
        for stage in self.recipes["methods"][cell.method]:
            found = self._curve(stage, cell)
            curve += [{**point, "seconds": round(point["seconds"] + seconds, 1)} for point in found["points"]]
            seconds += found["seconds"]
        log = self._stage_folder(stage, cell) / "logs" / f"{s.slug(_training_name(stage, cell))}.log"
        rest = {"train_seconds": round(seconds, 1), "curve": curve, **(said_of_rewards(log) if log.exists() else {})}
        return {**cell._asdict(), **measured, **rest}

    def _curve(self, stage: str, cell: Cell) -> dict[str, Any]:
        path = self._stage_folder(stage, cell) / "curve.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"complete": False, "points": []}

    def make(self, cell: Cell) -> None:
        """Train and measure what has not been yet."""
        data = self.out / f"T{cell.length}" / "data"
        stages: list[Stage] = []
        for name in self.recipes["methods"][cell.method]:
            stages.append(self._train(name, cell, data, stages[-1].checkpoint if stages else None))
            self._score_curve(stages[-1], cell, data)
        self._measure(cell, data, stages[-1].checkpoint)
        self._made.add(cell)

    def _train(self, stage: str, cell: Cell, data: Path, start: Path | None) -> Stage:
        """Train a stage by fairseq-train; an interrupted training continues from its last checkpoint."""
        folder = self._stage_folder(stage, cell)
        file = self.config / f"{stage}.yaml"
        overrides = self._overrides(stage, cell, file)
        start_flags = ["--finetune-from-model", start] if start else []
        save_dir = folder / "checkpoints"
        s.Steps(folder, self.steps.root, self.steps).run(
            _training_name(stage, cell),
            ["fairseq-train", data, "--user-dir", s.PACKAGE, *s.flags_from_yaml(file, overrides), *start_flags]
            + ["--save-dir", save_dir],
            training=True,
            inputs=[start] if start else [],
        )
        return Stage(stage, folder, self._checkpoint(stage, cell), start)

    def _overrides(self, stage: str, cell: Cell, file: Path) -> dict[str, str]:
        """Options of a stage instead of those of its YAML file."""
        given = self.recipes["lengths"].get(stage, {}).get(cell.length, {})
        overrides = {key: str(value) for key, value in given.items()}
        overrides |= {"common.seed": str(cell.seed), "task.fixed_length": str(cell.length), **self.training}
        config = s.read_yaml(file)
        if _PAPERS_REWARD in (sources := str(config["criterion"].get("reward_sources", ""))):
            name = join_sources([f"oracle:{self.settings.oracle_name}"])
            overrides["criterion.reward_sources"] = json.dumps(sources.replace(_PAPERS_REWARD, name))
        return overrides | (_smoke_overrides(config) if self.settings.smoke else {})

    def _score_curve(self, stage: Stage, cell: Cell, data: Path) -> None:
        """Oracle NLL of samples from each checkpoint that training has left, into curve.json; they are deleted then."""
        path = stage.folder / "curve.json"
        curve = self._curve(stage.name, cell)
        checkpoints = _interval_checkpoints(stage.folder / "checkpoints")
        if not curve["complete"]:
            from fairseq_seqvae.measure import figures as measure

            last = stage.folder / "checkpoints" / "checkpoint_last.pt"
            # fairseq continues to count the time of the checkpoint that it began with.
            before = progress(stage.start)["seconds"] if stage.start else 0.0
            for checkpoint in [*checkpoints, last]:
                point = {"stage": stage.name, **progress(checkpoint, before)}
                if any(point["updates"] == other["updates"] for other in curve["points"]):
                    continue
                print(f"  scoring the samples after {point['updates']} updates", flush=True)
                tokens = oracle_samples(*measure.load(checkpoint, data), self.settings.curve_draws, cell.seed)
                mean, standard_error = estimate(self.oracle.nll(tokens))
                curve["points"].append(point | {"oracle_nll": mean, "oracle_nll_standard_error": standard_error})
                write_json(path, curve)
            curve["points"].sort(key=lambda point: point["updates"])
            write_json(path, {**curve, "complete": True, "seconds": progress(last, before)["seconds"]})
        for checkpoint in checkpoints:
            checkpoint.unlink()

    def _measure(self, cell: Cell, data: Path, checkpoint: Path) -> None:
        """Samples at each temperature under the oracle, held-out data under the model, into measured.json."""
        folder, settings = self._measure_folder(cell), self.settings
        samples = folder / "samples.txt"
        if samples.exists() and samples.stat().st_mtime < checkpoint.stat().st_mtime:
            shutil.rmtree(folder)  # what was measured is of a model that was trained again since
        if not self._is_mixed(cell):  # what is no checkpoint alone, fairseq-generate cannot sample from
            s.Steps(folder, self.steps.root, self.steps).run(
                f"sample from {cell.method}, T {cell.length}, seed {cell.seed}",
                ["fairseq-generate", data, "--user-dir", s.PACKAGE, "--task", "seqvae", "--path", checkpoint, "--cpu"]
                + ["--gen-subset", "prior", "--num-draws", str(settings.draws), "--sampling", "--beam", "1"]
                + ["--unkpen", "1000", "--batch-size", "512", "--seed", str(cell.seed)],
                output=samples,
            )
        made_with = {**asdict(settings), "trained": os.stat(checkpoint).st_mtime}

        def make() -> dict[str, Any]:
            print(f"  measuring {cell.method}, T {cell.length}, seed {cell.seed}", flush=True)
            measuring = Measuring(settings, self.oracle, data, cell.length)
            return measuring.measured(checkpoint, cell.seed, folder, self._is_mixed(cell))

        once(folder / "measured.json", made_with, make)

    def _is_mixed(self, cell: Cell) -> bool:
        """Whether the model is mixed with a bigram table."""
        return cell.method in self.recipes.get("with_bigrams", ())


def _training_name(stage: str, cell: Cell) -> str:
    return f"train {stage}, T {cell.length}, seed {cell.seed}"


def _smoke_overrides(config: dict[str, Any]) -> dict[str, str]:
    overrides = {}
    for name, limit in SMOKE_LIMITS.items():
        group, key = name.split(".")
        if config.get(group, {}).get(key) is not None:
            overrides[name] = str(min(config[group][key], limit))
    return overrides


def _interval_checkpoints(folder: Path) -> list[Path]:
    """checkpoint3.pt, after an epoch, and checkpoint_3_200.pt, after an update; not checkpoint_best.pt and the like."""
    found = [file for file in folder.iterdir() if re.fullmatch(r"checkpoint(\d+|_\d+_\d+)\.pt", file.name)]
    return sorted(found, key=lambda file: file.stat().st_mtime)
