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
        return data_set in self.methods[method].get("data_sets", [data_set])

    def updates(self, data_set: str, given: int | None, smoke: bool) -> int:
        """How many updates "100%" is."""
        return SMOKE_UPDATES if smoke else given or self.data_sets[data_set]["updates"]

    def stages(self, method: str, data_set: str, updates: int, seed: int) -> list[list[str]]:
        """Flags of fairseq-train for each stage, without data, checkpoints and folders.

        Options of a data set go before those of base.yaml, those of a method before both, and those of a data set for
        a method before all.

        Args:
            updates: "100%"
        """
        data = self.data_sets[data_set]
        last = data.get("methods", {}).get(method, {})
        found = []
        for own in self.methods[method]["stages"]:
            options: dict[str, Any] = {f"{g}.{key}": v for g, group in self.base.items() for key, v in group.items()}
            options |= {**data.get("options", {}), **own, **last, "common.seed": seed}
            resolved = {name: json.dumps(resolve(value, updates)) for name, value in options.items()}
            found.append(s.flags_from_yaml(self.folder / "base.yaml", resolved))
        return found


def resolve(value: Any, updates: int) -> Any:
    """A share such as "75%" as a number of updates, at least 1; any other value as it is."""
    share = _SHARE.fullmatch(value) if isinstance(value, str) else None
    return max(1, round(int(share[1]) * updates / 100)) if share else value
