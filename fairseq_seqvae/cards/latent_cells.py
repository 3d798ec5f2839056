"""What the card of latents is made of: a method on a data set with a seed, trained by fairseq-train, then measured.

Every finished part leaves a file that is written as a whole or not at all; what is there already is not made again.
"""

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fairseq_seqvae.cards import making
from fairseq_seqvae.cards.files import is_made_with, once
from fairseq_seqvae.cards.latent_recipes import LANGUAGE_MODEL, Recipes
from fairseq_seqvae.cards.self_bleu import self_bleu
from fairseq_seqvae.runs import steps as s

REAL = "real"  # the row of real sentences: no model, judged as samples are
_WALKS, _WALK_POINTS = 20, 8
_JUDGED = ("accuracy", "accuracy_standard_error", "distinct", "copies", "in_one_scale", "leaps", "bar_returns")


@dataclass(frozen=True)
class Settings:
    """How all cells of a card are measured.

    Attributes:
        sequences: held-out sequences, the first ones of the test split
        importance_samples: draws of z for each of them
        samples: sequences from the prior
        bleu_hypotheses: samples that self-BLEU judges
        bleu_references: others that it compares each with
        judge_sequences: most training sequences, and as many samples, that a judge of the samples learns from
        reverse: train a language model on the samples of each cell
        updates: of training, instead of those of the data set
        smoke: a few updates only
    """

    sequences: int = 1_000
    importance_samples: int = 500
    samples: int = 10_000
    bleu_hypotheses: int = 500
    bleu_references: int = 100
    judge_sequences: int = 20_000
    reverse: bool = True
    updates: int | None = None
    smoke: bool = False


class Cell(NamedTuple):
    """A method on a data set with a seed of training and sampling."""

    data_set: str
    method: str
    seed: int


class Cells:
    """Makes the cells of a card in one folder.

    Args:
        out: folder of the card; DATA/data, DATA/train/METHOD-SEED/STAGE and DATA/measure/METHOD-SEED are in it
        settings: what all cells have in common
        recipes: methods and data sets
        root: where commands are run
    """

    def __init__(self, out: Path, settings: Settings, recipes: Recipes, root: Path):
        self.out = out
        self.settings = settings
        self.recipes = recipes
        self.steps = s.Steps(out, root)

    def make_data(self, name: str) -> Path:
        """Write and binarise a data set."""
        recipe = self.recipes.data_sets[name]
        steps = s.Steps(self.out / name, self.steps.root, self.steps)
        command = recipe.get("smoke" if self.settings.smoke and "smoke" in recipe else "command")
        return making.make_data(steps, self._text(name), command, self.recipes.folder)

    def make(self, cell: Cell) -> None:
        """Train and measure what has not been yet."""
        data = self.out / cell.data_set / "data"
        folder = self.out / cell.data_set / "measure" / f"{cell.method}-{cell.seed}"
        if cell.method == REAL:
            once(folder / "cell.json", self._made_with(cell), lambda: self._judged(cell, data, folder, None))
            return
        checkpoint = self._train(cell, data)
        made_with = self._made_with(cell)

        def make() -> dict[str, Any]:
            measured = once(folder / "measured.json", made_with, lambda: self._measured(cell, data, checkpoint))
            judgement = once(folder / "judgement.json", made_with, lambda: self._judgement(cell, data, checkpoint))
            judged = self._judged(cell, data, folder, checkpoint)
            return {**measured, **judgement, **judged, **self._training(cell)}

        once(folder / "cell.json", made_with, make)

    def finished(self) -> tuple[list[dict[str, Any]], list[Cell]]:
        """Finished cells in the order of the recipes, and those that other settings or recipes, or none, have made."""
        found, others = [], []
        for file in self.out.glob("*/measure/*/cell.json"):
            method, _, seed = file.parent.name.rpartition("-")
            cell = Cell(file.parents[2].name, method, int(seed))
            content = json.loads(file.read_text(encoding="utf-8"))
            known = cell.data_set in self.recipes.data_sets and method in (REAL, *self.recipes.methods)
            if known and is_made_with(file, self._made_with(cell)):
                del content["made_with"]
                found.append({**cell._asdict(), **content})
            else:
                others.append(cell)
        rows, columns = [REAL, *self.recipes.methods], list(self.recipes.data_sets)
        found.sort(key=lambda c: (columns.index(c["data_set"]), rows.index(c["method"]), c["seed"]))
        return found, sorted(others)

    # -- the parts --

    def _load(self, checkpoint: Path, data: Path) -> tuple[Any, Any]:
        """Model and task; on a GPU unless the recipes train without."""
        import torch

        from fairseq_seqvae.measure import figures as measure

        return measure.load(checkpoint, data, not self.recipes.base["common"].get("cpu") and torch.cuda.is_available())

    def _text(self, data_set: str) -> Path:
        recipe = self.recipes.data_sets[data_set]
        own = self.out / data_set / "text"
        return (self.recipes.folder / recipe["folder"]).resolve() if "folder" in recipe else own

    def _stages(self, cell: Cell) -> list[list[str]]:
        updates = self.recipes.updates(cell.data_set, self.settings.updates, self.settings.smoke)
        method = LANGUAGE_MODEL if cell.method == REAL else cell.method
        shorter = updates if self.settings.smoke or self.settings.updates else None
        return self.recipes.stages(method, cell.data_set, updates, cell.seed, shorter)

    def _stage_folder(self, cell: Cell, number: int) -> Path:
        return self.out / cell.data_set / "train" / f"{cell.method}-{cell.seed}" / str(number)

    def _made_with(self, cell: Cell) -> dict[str, Any]:
        """What must be the same for a cell to be the same: settings, flags, and the checkpoint if there is one."""
        stages = self._stages(cell)
        checkpoint = self._stage_folder(cell, len(stages)) / making.CHECKPOINT
        trained = checkpoint.stat().st_mtime if checkpoint.exists() else None
        return {**asdict(self.settings), "flags": stages, "trained": trained}

    def _train(self, cell: Cell, data: Path) -> Path:
        """Train all stages by fairseq-train; an interrupted training continues from its last checkpoint."""
        checkpoint: Path | None = None
        for number, flags in enumerate(self._stages(cell), start=1):
            folder = self._stage_folder(cell, number)
            start = [self.recipes.methods[cell.method]["start"], checkpoint] if checkpoint else []
            name = f"train {', '.join(map(str, cell))}, stage {number}"
            checkpoint = self._fairseq_train(folder, name, data, [*flags, *start])
        assert checkpoint is not None
        return checkpoint

    def _fairseq_train(self, folder: Path, name: str, data: Path, flags: Sequence[object]) -> Path:
        return making.fairseq_train(s.Steps(folder, self.steps.root, self.steps), name, data, flags)

    def _training(self, cell: Cell) -> dict[str, Any]:
        """CPU seconds of all stages, and whether one of them was interrupted."""
        files = [self._stage_folder(cell, i + 1) / "cpu.json" for i in range(len(self._stages(cell)))]
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return {
            "cpu_seconds": round(sum(part["seconds"] for part in found), 2),
            "resumed": any(part["runs"] > 1 for part in found),
        }

    def _measured(self, cell: Cell, data: Path, checkpoint: Path) -> dict[str, Any]:
        """Likelihood, latent and reconstruction of held-out data."""
        # These import fairseq: seconds, which a finished cell need not wait.
        from fairseq_seqvae.cards.compare import against_truth, true_values
        from fairseq_seqvae.measure import figures as measure
        from fairseq_seqvae.oracle.latent_model import LatentOracle

        print(f"  measuring {', '.join(map(str, cell))}", flush=True)
        settings = self.settings
        model, task = self._load(checkpoint, data)
        held_out_set = measure.read_split(task, "test", settings.sequences)
        found, arrays = measure.measure_held_out(model, held_out_set, [1.0], settings.importance_samples, cell.seed)
        found |= measure.measure_reconstruction(model, held_out_set, task.dictionary, cell.seed, _WALKS, _WALK_POINTS)
        if "truth" in self.recipes.data_sets[cell.data_set]:
            oracle = LatentOracle.from_seed(self.recipes.data_sets[cell.data_set]["truth"])
            _, truth = true_values(oracle, task, held_out_set, "test")
            found |= against_truth(truth, found, arrays)
            found["true_mutual_information"] = float(truth.divergence.double().mean())
            found["true_nll"] = -float(truth.log_likelihood.double().mean())
        for name in ("nll", "elbo_per_sequence", "nll_per_sequence", "nll_standard_error"):
            found[name] = found[name][0]
        found["log_likelihood"] = [round(value, 4) for value in arrays["log_likelihood"][:, 0].tolist()]
        return {name: value for name, value in found.items() if name != "temperatures"}

    def _judgement(self, cell: Cell, data: Path, checkpoint: Path) -> dict[str, Any]:
        """What a discriminator that is trained afterwards sees of samples, and figures beside it, as in `judge`."""
        from fairseq_seqvae.judge.figures import Room
        from fairseq_seqvae.judge.training import JudgePlan

        print(f"  judging {', '.join(map(str, cell))}", flush=True)
        model, task = self._load(checkpoint, data)
        room = Room(model, task, "test", self.settings.sequences, self.settings.judge_sequences)
        row = room.sampled_row(1.0, [cell.seed], "model", JudgePlan())
        known = room.held_out_row()
        figures = {f"draws_{name}": row[name] for name in _JUDGED if name in row}
        return figures | {f"held_out_{name}": known[name] for name in _JUDGED if name in known}

    def _judged(self, cell: Cell, data: Path, folder: Path, checkpoint: Path | None) -> dict[str, Any]:
        """Variety of samples, and what a language model that is trained on them says of held-out data.

        Args:
            folder: of the cell
            checkpoint: None for real sentences of the training split
        """
        samples = self._samples(cell, data, folder / "samples", checkpoint)
        settings = self.settings
        lines = samples.read_text(encoding="utf-8").splitlines()
        likeness = {"self_bleu": self_bleu(lines, settings.bleu_hypotheses, settings.bleu_references)}
        if not settings.reverse:
            return likeness
        reverse = s.Steps(folder / "samples" / "reverse", self.steps.root, self.steps)
        own = reverse.folder / "data"
        reverse.run(
            "binarise the samples",
            ["fairseq-preprocess", "--only-source", "--srcdict", data / "dict.txt", "--destdir", own]
            + ["--trainpref", samples],
            inputs=[samples],
        )
        (flags,) = self._stages(cell._replace(method=LANGUAGE_MODEL))
        name = f"train a language model on the samples of {', '.join(map(str, cell))}"
        self._fairseq_train(reverse.folder, name, own, flags)

        from fairseq_seqvae.measure import figures as measure

        model, task = self._load(reverse.folder / making.CHECKPOINT, data)
        held_out_set = measure.read_split(task, "test", settings.sequences)
        figures, _ = measure.measure_held_out(model, held_out_set, [1.0], 1, cell.seed)
        drawn = measure.read_split(self._load(reverse.folder / making.CHECKPOINT, own)[1], "train")
        return {"reverse_nll": figures["nll"][0], **likeness, **measure.variety(drawn.tokens, drawn.lengths)}

    def _samples(self, cell: Cell, data: Path, folder: Path, checkpoint: Path | None) -> Path:
        """samples.txt, a sequence a line: draws from the prior, or the first real sentences."""
        path, made_with, number = folder / "samples.txt", self._made_with(cell), self.settings.samples
        known = folder / "samples.json"
        if known.exists() and not is_made_with(known, made_with):
            shutil.rmtree(folder)  # samples of a model that was trained again since, or another number of them
        folder.mkdir(parents=True, exist_ok=True)

        def make() -> dict[str, Any]:
            if checkpoint is None:
                with open(self._text(cell.data_set) / "train.txt", encoding="utf-8") as file:
                    lines = [line.rstrip("\n") for line in itertools.islice(file, number)]
            else:
                from fairseq_seqvae.measure import figures as measure

                print(f"  samples of {', '.join(map(str, cell))}", flush=True)
                model, task = self._load(checkpoint, data)
                drawn = measure.prior_samples(model, number, cell.seed)
                rows = zip(drawn.tokens.cpu(), drawn.lengths.tolist(), strict=True)
                lines = [task.dictionary.string(tokens[:length]) for tokens, length in rows]
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            return {"lines": len(lines)}

        once(known, made_with, make)
        return path
