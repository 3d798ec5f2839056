"""What the card is made of: a method at a length with a seed, trained by fairseq's commands, then measured.

Every finished part leaves a file that is written as a whole or not at all; what is there already is not made again.
"""

import json
import os
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from fairseq_seqvae.cards import mixing
from fairseq_seqvae.cards.baselines import baselines
from fairseq_seqvae.cards.files import once, write_json
from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.model import estimate
from fairseq_seqvae.oracle.score import read_tokens
from fairseq_seqvae.runs import steps as s

DATA_SEED = 1
PAPER_SEED = 88
# Rewards of recipes that know the oracle name that of the paper: it is replaced by that of the card.
LAST_JUDGEMENTS = 3
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


@dataclass(frozen=True)
class Settings:
    """What all cells of a card have in common.

    Attributes:
        temperatures: of the decoder, 1 among them
        draws: samples from the prior at each temperature
        curve_draws: samples from each checkpoint that training leaves
        held_out: held-out sequences, the first ones of the test split
        importance_samples: draws of z for each of them
        sizes: sequences of each split; the data of a length are the same for all methods and seeds
        npz: oracle of these arrays; None: one that is drawn
        oracle_seed: its seed; 88 is the paper's
        oracle_scale: factor of its weights
        smoke: a few updates only
    """

    temperatures: tuple[float, ...]
    draws: int = 10_000
    curve_draws: int = 2_000
    held_out: int = 1_000
    importance_samples: int = 64
    sizes: tuple[tuple[str, int], ...] = (("train", 9984), ("valid", 1000), ("test", 10_000))
    npz: str | None = None
    smoke: bool = False
    oracle_seed: int = PAPER_SEED
    oracle_scale: float = 1.0

    def oracle(self) -> Oracle:
        """The oracle."""
        return Oracle.from_npz(self.npz) if self.npz else Oracle.from_seed(self.oracle_seed, scale=self.oracle_scale)

    @property
    def is_papers(self) -> bool:
        """Whether the oracle is that of the paper."""
        return not self.npz and (self.oracle_seed, self.oracle_scale) == (PAPER_SEED, 1)

    @property
    def description(self) -> str:
        """The oracle in words."""
        if self.npz:
            return "another oracle"
        scale = "" if self.oracle_scale == 1 else f", weights times {self.oracle_scale:g}"
        return f"the oracle of seed {self.oracle_seed}{scale}"

    @property
    def oracle_flags(self) -> list[str]:
        """The oracle, for ``python -m fairseq_seqvae.oracle``."""
        if self.npz:
            return ["--npz", self.npz]
        return ["--seed", str(self.oracle_seed)] + (
            ["--scale", str(self.oracle_scale)] if self.oracle_scale != 1 else []
        )

    @property
    def oracle_name(self) -> str:
        """The oracle, as the reward ``oracle:NAME`` has it."""
        return self.npz or f"{self.oracle_seed}" + (f"*{self.oracle_scale}" if self.oracle_scale != 1 else "")


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
        generate: list[str | Path] = [
            sys.executable,
            "-m",
            "fairseq_seqvae.oracle",
            "generate",
            *self.settings.oracle_flags,
        ]
        steps.run(
            "draw the data",
            [*generate, "--length", str(length), "--data-seed", str(DATA_SEED), *sizes, "--out", text, "--force"],
            inputs=[Path(self.settings.npz)] if self.settings.npz else [],
        )
        splits = [part for split, _ in self.settings.sizes for part in (f"--{split}pref", text / f"{split}.txt")]
        preprocess: list[str | Path] = [
            "fairseq-preprocess",
            "--only-source",
            "--srcdict",
            text / "dict.txt",
            "--destdir",
            data,
        ]
        steps.run("binarise the data", [*preprocess, *splits])
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
            name = f"oracle:{self.settings.oracle_name}"
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
            before = _progress(stage.start)["seconds"] if stage.start else 0.0
            for checkpoint in [*checkpoints, last]:
                point = {"stage": stage.name, **_progress(checkpoint, before)}
                if any(point["updates"] == other["updates"] for other in curve["points"]):
                    continue
                print(f"  scoring the samples after {point['updates']} updates", flush=True)
                tokens = oracle_samples(*measure.load(checkpoint, data), self.settings.curve_draws, cell.seed)
                mean, standard_error = estimate(self.oracle.nll(tokens))
                curve["points"].append(point | {"oracle_nll": mean, "oracle_nll_standard_error": standard_error})
                write_json(path, curve)
            curve["points"].sort(key=lambda point: point["updates"])
            write_json(path, {**curve, "complete": True, "seconds": _progress(last, before)["seconds"]})
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
            return self._measured(cell, data, checkpoint, folder)

        once(folder / "measured.json", made_with, make)

    def _is_mixed(self, cell: Cell) -> bool:
        """Whether the model is mixed with a bigram table."""
        return cell.method in self.recipes.get("with_bigrams", ())

    def _measured(self, cell: Cell, data: Path, checkpoint: Path, folder: Path) -> dict[str, Any]:
        from fairseq_seqvae.measure import (
            figures as measure,  # imports fairseq: seconds, which a finished cell need not wait
        )

        settings = self.settings
        model, task = measure.load(checkpoint, data)
        is_mixed = self._is_mixed(cell)
        if is_mixed:
            text, size = data.parent / "text", self.oracle.vocab_size
            train, valid = (read_tokens(text / f"{split}.txt", size, cell.length) for split in ("train", "valid"))
            model.decoder = mixing.fit(model.decoder, train, valid, size, task.dictionary.nspecial)
        held_out_set = measure.read_split(task, "test", settings.held_out)
        taus = settings.temperatures
        figures, arrays = measure.measure_held_out(model, held_out_set, taus, settings.importance_samples, cell.seed)
        points, oracle_nlls = [], []
        for i, tau in enumerate(taus):
            if tau == 1 and not is_mixed:
                tokens = read_tokens(folder / "samples.txt", self.oracle.vocab_size, cell.length)
            else:
                tokens = oracle_samples(model, task, settings.draws, cell.seed, tau)
            nll = self.oracle.nll(tokens)
            oracle_nlls.append(nll.numpy())
            mean, standard_error = estimate(nll)
            points.append(
                {
                    "temperature": tau,
                    "oracle_nll": mean,
                    "oracle_nll_standard_error": standard_error,
                    "held_out_nll": figures["nll"][i],
                    "held_out_nll_standard_error": figures["nll_standard_error"][i],
                    "elbo_per_sequence": figures["elbo_per_sequence"][i],
                    **measure.variety(tokens, torch.full((len(tokens),), cell.length)),
                }
            )
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "sequences.npz.partial"
        with open(partial, "wb") as file:
            np.savez_compressed(file, temperatures=taus, oracle_nll=np.stack(oracle_nlls), **arrays)
        os.replace(partial, folder / "sequences.npz")
        kept = ("kl", "mutual_information", "active_units", "latent_dim", "sequences", "importance_samples")
        mixed = {"table_weight": model.decoder.weight} if is_mixed else {}
        return {**{key: figures[key] for key in kept}, **mixed, **_progress(checkpoint), "points": points}


def _training_name(stage: str, cell: Cell) -> str:
    return f"train {stage}, T {cell.length}, seed {cell.seed}"


def said_of_rewards(log: Path) -> dict[str, float]:
    """What the log of a training says at last of its discriminator and its reward; nothing where it has none.

    ``d_acc_held_out``: share of held-out sentences and fresh samples that the discriminator tells correctly, the mean
    of the last judgements; ``reward_rank``: rank correlation of the reward with the oracle's log-probability, the mean
    over the last half of what was logged.
    """
    judged, ranks = [], []
    for line in log.read_text(encoding="utf-8").splitlines():
        if found := re.search(r"\| train_inner \| (\{.*\})$", line.strip()):
            stats = json.loads(found[1])
            judged += [float(stats[key]) for key in ("d_acc_held_out",) if key in stats]
            names = [key for key in stats if key.startswith("rewards/oracle:") and key.endswith("/rank")]
            ranks += [float(stats[key]) for key in names]
    said = {"d_acc_held_out": judged[-LAST_JUDGEMENTS:], "reward_rank": ranks[len(ranks) // 2 :]}
    return {key: float(np.mean(values)) for key, values in said.items() if values}


def oracle_samples(model: Any, task: Any, number: int, seed: int, temperature: float = 1.0) -> torch.Tensor:
    """Draws from the prior as the oracle numbers its tokens, (N, T)."""
    from fairseq_seqvae.measure import figures as measure

    return measure.prior_samples(model, number, seed, temperature).tokens - task.dictionary.nspecial


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


def _progress(checkpoint: Path, seconds_before: float = 0.0) -> dict[str, float]:
    """Updates of a checkpoint, and seconds of training up to it, validation and saving included.

    Args:
        seconds_before: not to be counted
    """
    from fairseq.checkpoint_utils import load_checkpoint_to_cpu

    state = load_checkpoint_to_cpu(str(checkpoint))
    return {
        "updates": state["optimizer_history"][-1]["num_updates"],
        "seconds": round(state["extra_state"]["previous_training_time"] - seconds_before, 1),
    }
