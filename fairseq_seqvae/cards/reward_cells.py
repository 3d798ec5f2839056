"""What the card of rewards is made of: a policy for a rule with a seed, trained by fairseq-train, then measured.

Every finished part leaves a file that is written as a whole or not at all; what is there already is not made again.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fairseq_seqvae.cards import making
from fairseq_seqvae.cards.files import is_made_with, once
from fairseq_seqvae.cards.reward_recipes import BASE, Recipes
from fairseq_seqvae.runs import steps as s


@dataclass(frozen=True)
class Settings:
    """How all cells of a card are measured.

    Attributes:
        samples: sequences from the prior that each row is judged by
        best_of: n of best-of-n, ascending
        temperatures: of the model before the rewards
        sequences: held-out sequences, the first ones of the test split
        importance_samples: draws of z for each of them
        smoke: a few updates only
    """

    samples: int = 1_000
    best_of: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    temperatures: tuple[float, ...] = (0.8, 0.6, 0.4, 0.2)
    sequences: int = 1_000
    importance_samples: int = 50
    smoke: bool = False


class Cell(NamedTuple):
    """A policy for a rule with a seed of training and sampling; the policy BASE is what needs no training."""

    rule: str
    policy: str
    seed: int


class Cells:
    """Makes the cells of a card in one folder.

    Args:
        out: folder of the card; data/NAME, models/MODEL-SEED, RULE/train/POLICY-SEED and RULE/measure/POLICY-SEED are
            in it
        settings: what all cells have in common
        recipes: models, rules and policies
        root: where commands are run
    """

    def __init__(self, out: Path, settings: Settings, recipes: Recipes, root: Path):
        self.out = out
        self.settings = settings
        self.recipes = recipes
        self.steps = s.Steps(out, root)

    def make(self, cell: Cell) -> None:
        """Train and measure what has not been yet."""
        model = self.recipes.rules[cell.rule].model
        data = self._make_data(model)
        base = self._train_base(model, cell.seed, data)
        if cell.policy == BASE:
            once(self._file(cell), self._made_with(cell), lambda: self._without_training(cell, data, base))
            return
        flags = [*self._flags(cell), "--finetune-from-model", base]
        learned = self._select(cell, data, base) or data
        trained = self._fairseq_train(self._folder(cell), f"train {', '.join(map(str, cell))}", learned, flags)
        once(self._file(cell), self._made_with(cell), lambda: self._policy(cell, data, base, trained))

    def finished(self) -> tuple[list[dict[str, Any]], list[Cell]]:
        """Finished cells in the order of the recipes, and those that other settings or recipes, or none, have made."""
        found, others = [], []
        for file in self.out.glob("*/measure/*/cell.json"):
            policy, _, seed = file.parent.name.rpartition("-")
            cell = Cell(file.parents[2].name, policy, int(seed))
            rule = self.recipes.rules.get(cell.rule)
            if rule and policy in (BASE, *rule.policies) and is_made_with(file, self._made_with(cell)):
                content = json.loads(file.read_text(encoding="utf-8"))
                del content["made_with"]
                found.append({**cell._asdict(), **content})
            else:
                others.append(cell)
        rules, policies = list(self.recipes.rules), [BASE, *self.recipes.policies]
        found.sort(key=lambda c: (rules.index(c["rule"]), policies.index(c["policy"]), c["seed"]))
        return found, sorted(others)

    # -- trainings --

    def _make_data(self, model: str) -> Path:
        """Write and binarise the data of a model, unless it names a folder that fairseq-preprocess has written."""
        recipe = self.recipes.models[model]["data"]
        if "binarised" in recipe:
            return (self.recipes.folder / recipe["binarised"]).resolve()
        steps = s.Steps(self.out / "data" / recipe["name"], self.steps.root, self.steps)
        text = (self.recipes.folder / recipe["folder"]).resolve() if "folder" in recipe else steps.folder / "text"
        return making.make_data(steps, text, recipe.get("command"), self.recipes.folder)

    def _train_base(self, model: str, seed: int, data: Path) -> Path:
        """The model before the rewards, trained unless it names its checkpoint."""
        if "checkpoint" in self.recipes.models[model]:
            return self._base(model, seed)
        folder = self.out / "models" / f"{model}-{seed}"
        flags = self.recipes.base_flags(model, seed, self.settings.smoke)
        return self._fairseq_train(folder, f"train {model}, {seed}, by likelihood", data, flags)

    def _base(self, model: str, seed: int) -> Path:
        given = self.recipes.models[model].get("checkpoint")
        own = self.out / "models" / f"{model}-{seed}" / making.CHECKPOINT
        return (self.recipes.folder / given.format(seed=seed)).resolve() if given else own

    def _select(self, cell: Cell, data: Path, base: Path) -> Path | None:
        """Let the model before the rewards draw what the policy is to learn from, and binarise it; None: nothing."""
        flags = self._selection(cell)
        if not flags:
            return None
        folder = self._folder(cell) / "selected"
        steps = s.Steps(folder, self.steps.root, self.steps)
        lines, binarised = folder / "train.txt", folder / "data"
        name = f"select for {', '.join(map(str, cell))}"
        command = [sys.executable, "-m", "fairseq_seqvae", "select", data, "--path", base, "--cpu", *flags]
        making.run_counted(steps, name, [*command, "--force", "--out", lines])
        steps.run(
            "binarise what is selected",
            ["fairseq-preprocess", "--only-source", "--srcdict", data / "dict.txt", "--trainpref", lines]
            + ["--destdir", binarised],
            inputs=[lines],
        )
        return binarised

    def _selection(self, cell: Cell) -> list[str]:
        return self.recipes.selection_flags(cell.rule, cell.policy, cell.seed, self.settings.smoke)

    def _fairseq_train(self, folder: Path, name: str, data: Path, flags: Sequence[object]) -> Path:
        return making.fairseq_train(s.Steps(folder, self.steps.root, self.steps), name, data, flags)

    def _flags(self, cell: Cell) -> list[str]:
        return self.recipes.policy_flags(cell.rule, cell.policy, cell.seed, self.settings.smoke)

    def _folder(self, cell: Cell) -> Path:
        return self.out / cell.rule / "train" / f"{cell.policy}-{cell.seed}"

    def _file(self, cell: Cell) -> Path:
        return self.out / cell.rule / "measure" / f"{cell.policy}-{cell.seed}" / "cell.json"

    def _made_with(self, cell: Cell) -> dict[str, Any]:
        """What must be the same for a cell to be the same: settings, rule, flags, and the checkpoints."""
        rule = self.recipes.rules[cell.rule]
        base = self._base(rule.model, cell.seed)
        paths = [base] if cell.policy == BASE else [base, self._folder(cell) / making.CHECKPOINT]
        return {
            **asdict(self.settings),
            "sources": list(rule.sources),
            "threshold": rule.threshold,
            "flags": self.recipes.base_flags(rule.model, cell.seed, self.settings.smoke)
            if cell.policy == BASE
            else [*self._selection(cell), *self._flags(cell)],
            "trained": [path.stat().st_mtime if path.exists() else None for path in paths],
        }

    # -- measures --

    def _judge(self, cell: Cell, data: Path, base: Path) -> Any:
        from fairseq_seqvae.cards.reward_measures import Judge  # imports fairseq: seconds

        rule = self.recipes.rules[cell.rule]
        return Judge(base, data, self.recipes.sources(cell.rule), rule.threshold, self.settings, cell.seed)

    def _policy(self, cell: Cell, data: Path, base: Path, checkpoint: Path) -> dict[str, Any]:
        """A policy, and the seconds that its training took."""
        print(f"  measuring {', '.join(map(str, cell))}", flush=True)
        judge = self._judge(cell, data, base)
        found = judge.of_policy(checkpoint)
        files = [self._folder(cell) / "cpu.json", self._folder(cell) / "selected" / "cpu.json"]
        cpu = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
        seconds = sum(one["seconds"] for one in cpu)
        return {**found, "train_seconds": round(seconds, 1), "resumed": any(one["runs"] > 1 for one in cpu)}

    def _without_training(self, cell: Cell, data: Path, base: Path) -> dict[str, Any]:
        """Best-of-n and temperatures."""
        print(f"  measuring {', '.join(map(str, cell))}", flush=True)
        judge = self._judge(cell, data, base)
        scores, best = judge.best_of()
        return {
            "best_of": best,
            "temperatures": [judge.of_temperature(tau) for tau in self.settings.temperatures],
            "scores": {"values": scores.values.tolist(), "shares": scores.shares.tolist()},
        }
