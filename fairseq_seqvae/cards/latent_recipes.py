"""What the card of latents trains: methods and data sets as YAML files, and the flags of fairseq-train they mean."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_seqvae.runs import steps as s

LANGUAGE_MODEL = "lm"  # the method that likelihoods are compared with
PLAIN = "vae"  # the method whose training time is the unit
SMOKE_UPDATES = 10
# What is shortened with the updates of an example's own recipe.
_SCHEDULE = (
    "optimization.max_update",
    "lr_scheduler.warmup_updates",
    "lr_scheduler.total_num_update",
    "criterion.kl_anneal_updates",
    "task.gen_pretrain_updates",
    "task.disc_pretrain_updates",
)
_FILES = ("base.yaml", "data_sets.yaml", "methods.yaml")
_SHARE = re.compile(r"(\d+)%")


@dataclass(frozen=True)
class Recipes:
    """The files of a folder.

    Attributes:
        folder: the folder
        base: options of the plain VAE, in groups
        data_sets: by name
        methods: by name
    """

    folder: Path
    base: Mapping[str, Mapping[str, Any]]
    data_sets: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> "Recipes":
        """Read them; ValueError if one is missing or lacks what the others refer to."""
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f"--config {folder} has no {', '.join(missing)}: give a folder such as examples/latents/recipes."
            )
        base, data_sets, methods = (s.read_yaml(folder / name) for name in _FILES)
        for needed in (LANGUAGE_MODEL, PLAIN):
            if needed not in methods:
                raise ValueError(f"--config {folder}: methods.yaml lacks {needed!r}, which others are compared with.")
        return cls(folder, base, data_sets, methods)

    def applies(self, method: str, data_set: str) -> bool:
        """Whether a method can be trained on these data."""
        if self.methods[method].get("of_example") and "example" not in self.data_sets[data_set]:
            return False
        return data_set in self.methods[method].get("data_sets", [data_set])

    def updates(self, data_set: str, given: int | None, smoke: bool) -> int:
        """How many updates "100%" is."""
        return SMOKE_UPDATES if smoke else given or self.data_sets[data_set]["updates"]

    def example(self, data_set: str) -> Path:
        """The YAML file of the example that a data set is of."""
        return (self.folder / self.data_sets[data_set]["example"]).resolve()

    def stages(
        self, method: str, data_set: str, updates: int, seed: int, shorter: int | None = None
    ) -> list[list[str]]:
        """Flags of fairseq-train for each stage, without data, checkpoints and folders.

        Options of a data set go before those of base.yaml, those of a method before both, and those of a data set for
        a method before all. A method with ``of_example`` has the options of the example instead of the first two.

        Args:
            updates: "100%"
            shorter: updates of an example's recipe; None: as many as its file says
        """
        data = self.data_sets[data_set]
        last = data.get("methods", {}).get(method, {})
        file = self.folder / "base.yaml"
        base = {**_flat(self.base), **data.get("options", {})}
        if self.methods[method].get("of_example"):
            file = self.example(data_set)
            base = _shortened(_flat(s.read_yaml(file)), shorter)
        found = []
        for own in self.methods[method]["stages"]:
            options: dict[str, Any] = {**base, **own, **last, "common.seed": seed}
            resolved = {name: json.dumps(resolve(value, updates)) for name, value in options.items()}
            found.append(s.flags_from_yaml(file, resolved))
        return found


def _flat(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{name}.{key}": value for name, group in groups.items() for key, value in group.items()}


def _shortened(options: dict[str, Any], updates: int | None) -> dict[str, Any]:
    """The options of a run with its schedule shortened to so many updates."""
    if updates is None:
        return options
    share = updates / options["optimization.max_update"]
    return options | {name: max(1, round(share * options[name])) for name in _SCHEDULE if options.get(name)}


def resolve(value: Any, updates: int) -> Any:
    """A share such as "75%" as a number of updates, at least 1; any other value as it is."""
    share = _SHARE.fullmatch(value) if isinstance(value, str) else None
    return max(1, round(int(share[1]) * updates / 100)) if share else value
