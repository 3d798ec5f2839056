"""What the card of rewards trains: models, rules and policies as YAML files, and the flags they mean."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairseq_seqvae.rewards.sources import join_sources, parted
from fairseq_seqvae.runs import steps as s

BASE = "base"  # the model before the rewards, and what can be had from it without training
SMOKE_UPDATES = 6
_FILES = ("models.yaml", "rules.yaml", "policies.yaml")
_SELECT = {"draws", "keep", "weight"}  # what a policy that learns from selected draws says of them
_SMOKE_DRAWS = 400


@dataclass(frozen=True)
class Rule:
    """A rule that sequences should meet.

    Attributes:
        what: in words
        model: that learns it
        sources: rewards, all of which count alike: the score of a sequence is their mean
        threshold: a sequence of this score meets the rule
        options: of fairseq-train for all policies
        policies: those that are trained for this rule
    """

    what: str
    model: str
    sources: tuple[str, ...]
    threshold: float
    options: Mapping[str, Any]
    policies: tuple[str, ...]


@dataclass(frozen=True)
class Recipes:
    """The files of a folder.

    Attributes:
        folder: the folder
        models: by name
        rules: by name
        policies: by name
        shared: options of all policies that are trained for the rewards
    """

    folder: Path
    models: Mapping[str, Mapping[str, Any]]
    rules: Mapping[str, Rule]
    policies: Mapping[str, Mapping[str, Any]]
    shared: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Recipes":
        """Read them; ValueError if one is missing or lacks what the others refer to."""
        missing = [name for name in _FILES if not (folder / name).is_file()]
        if missing:
            raise ValueError(
                f"--config {folder} has no {', '.join(missing)}: give a folder such as examples/rewards/recipes."
            )
        models, rules, policies = (s.read_yaml(folder / name, groups=False) for name in _FILES)
        found = {name: _rule(recipe, policies["policies"]) for name, recipe in rules.items()}
        for name, rule in found.items():
            if rule.model not in models:
                raise ValueError(f"--config {folder}: the rule {name!r} needs the model {rule.model!r}, which is none.")
            if unknown := [each for each in rule.policies if each not in policies["policies"]]:
                raise ValueError(f"--config {folder}: the rule {name!r} has no policy {', '.join(unknown)}.")
        for name, policy in policies["policies"].items():
            selection = policy.get("select")
            if "select" in policy and (not isinstance(selection, dict) or set(selection) != _SELECT):
                raise ValueError(
                    f"--config {folder}: `select` of the policy {name!r} needs {', '.join(sorted(_SELECT))}."
                )
        return cls(folder, models, found, policies["policies"], policies["shared"])

    def sources(self, rule: str) -> list[str]:
        """The rewards of a rule, with the folder of files in their place."""
        return [source.format(here=self.folder) for source in self.rules[rule].sources]

    def base_flags(self, model: str, seed: int, smoke: bool) -> list[str]:
        """Flags of fairseq-train for a model, without data, checkpoints and folders."""
        return self._flags(model, {**self.models[model].get("options", {}), "common.seed": seed}, smoke)

    def selection_flags(self, rule: str, policy: str, seed: int, smoke: bool) -> list[str]:
        """Flags of the command ``select`` for a policy that learns from what it keeps; none for another one."""
        recipe = self.policies[policy].get("select")
        if recipe is None:
            return []
        sources = self.sources(rule)
        weights = ",".join(str(1 if parted(source)[0] else recipe["weight"]) for source in sources)
        values = {
            "--reward-sources": join_sources(sources),
            "--reward-weights": weights,
            "--draws": _SMOKE_DRAWS if smoke else recipe["draws"],
            "--keep": recipe["keep"],
            "--seed": seed,
        }
        return [str(part) for flag in values.items() for part in flag]

    def policy_flags(self, rule: str, policy: str, seed: int, smoke: bool) -> list[str]:
        """Flags of fairseq-train; options of the policy go before those of its rule, these before the shared ones.

        A policy that learns from selected draws has neither of the latter: it knows of no rewards.
        """
        own, recipe = self.rules[rule], self.policies[policy]
        if "select" in recipe:
            options = {**self.models[own.model].get("options", {}), **recipe["options"], "common.seed": seed}
            return self._flags(own.model, options, smoke)
        options = {**self.models[own.model].get("options", {}), **self.shared, **own.options, **recipe["options"]}
        options.setdefault("criterion.reward_sources", join_sources(self.sources(rule)))
        options |= {"task.gen_pretrain_updates": 0, "common.seed": seed}
        return self._flags(own.model, options, smoke)

    def _flags(self, model: str, options: Mapping[str, Any], smoke: bool) -> list[str]:
        last = {"optimization.max_update": SMOKE_UPDATES} if smoke else {}
        values = {name: json.dumps(value) for name, value in {**options, **last}.items()}
        return s.flags_from_yaml(self.folder / f"{self.models[model]['recipe']}.yaml", values)


def _rule(recipe: Mapping[str, Any], policies: Mapping[str, Any]) -> Rule:
    return Rule(
        recipe["what"],
        recipe["model"],
        tuple(recipe["sources"]),
        recipe.get("threshold", 1.0),
        recipe.get("options", {}),
        tuple(recipe.get("policies", policies)),
    )
