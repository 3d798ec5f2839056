"""Which rewards a training has, and with which weights: ``--reward-sources`` and ``--reward-weights``."""

import inspect
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rewards.weighted import Weighted, WeightedRewards
from fairseq_seqvae.rewards.matching import PREFIX, MatchingReward
from fairseq_seqvae.rewards.registry import REWARDS, Rule, Run
from fairseq_seqvae.rewards.rule import RuleReward
from fairseq_seqvae.rewards.texts import Reader
from fairseq_seqvae.rewards.workers import Workers
from fairseq_seqvae.support.extensions import import_module_file

FLAG = "--reward-sources"
DISCRIMINATOR = "discriminator"
_FUNCTION = re.compile(r"(.+\.py):([A-Za-z_]\w*)", re.DOTALL)


def split_sources(text: str) -> list[str]:
    """Sources that commas separate; ``\\,`` is a comma within one."""
    return [part.replace("\\,", ",").lstrip() for part in re.split(r"(?<!\\),", text)]


def join_sources(sources: Iterable[str]) -> str:
    """What :func:`split_sources` takes apart again."""
    return ",".join(source.replace(",", "\\,") for source in sources)


def split_weights(text: str | None, count: int) -> list[float]:
    """The weights of *count* rewards, 1 each where *text* is empty; an empty list if it is no list of numbers."""
    if not text:
        return [1.0] * count
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return weights if all(abs(weight) < float("inf") for weight in weights) else []


def weights_fit(sources: str, weights: str | None) -> bool:
    """Whether *weights* are finite numbers, one for each of *sources*."""
    count = len(split_sources(sources))
    return len(split_weights(weights, count)) == count


def uses_discriminator(text: str) -> bool:
    """Whether the discriminator is among the sources *text*."""
    return DISCRIMINATOR in split_sources(text)


def names_of(sources: list[str]) -> list[str]:
    """What logs call each source: the function of a file, ``NAME:ARGUMENT`` of others, without slashes."""
    names = []
    for source in sources:
        prefix, rule = parted(source)
        found = _FUNCTION.fullmatch(rule)
        names.append(prefix + (found.group(2) if found else rule.replace("/", "_")))
    return names


def label(text: str) -> str:
    """The sources without the folders of their files, which may move: what must not change in a run that continues."""
    parts = []
    for source in split_sources(text):
        prefix, rule = parted(source)
        parts.append(prefix + (rule.rsplit("/", 1)[-1] if _FUNCTION.fullmatch(rule) else rule))
    return ",".join(parts)


def parted(source: str) -> tuple[str, str]:
    """``match:``, or an empty text, and the rule behind it."""
    return (PREFIX, source[len(PREFIX) :]) if source.startswith(PREFIX) else ("", source)


class Sources(NamedTuple):
    """Rewards that are loaded and checked, without the discriminator, which lives and changes in the model.

    Attributes:
        names: of all rewards, in the order of the flag
        weights: of all rewards
        rewards: of those that are no discriminator
    """

    names: list[str]
    weights: list[float]
    rewards: dict[str, RuleReward]

    def reward(self, discriminator: Callable[[], Reward]) -> Reward:
        """All of them as one; *discriminator* makes that one if it is among them, and is as it is if it is alone."""
        if self.names == [DISCRIMINATOR] and self.weights == [1]:
            return discriminator()
        parts = []
        for name, weight in zip(self.names, self.weights, strict=True):
            reward = discriminator() if name == DISCRIMINATOR else self.rewards[name]
            parts.append(Weighted(name, reward, weight))
        return WeightedRewards(parts)


def load_sources(sources_text: str, weights_text: str | None, run: Run, reader: Reader, workers: int = 0) -> Sources:
    """Load what the flags name. This runs the code of files: the flags must come from the user, not from a checkpoint.

    Args:
        sources_text: as typed
        weights_text: the same, one for each source
        run: see :class:`Run`
        reader: makes texts of tokens
        workers: processes that call each function of a file; 0: this one does

    Raises:
        ValueError: a source does not exist or will not do; the message names the flag
    """
    sources = split_sources(sources_text)
    names, weights = names_of(sources), split_weights(weights_text, len(sources))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        remedy = "give it once, with the sum of the weights, or rename one of two functions of the same name"
        raise ValueError(f"{FLAG} {sources_text} has {twice!r} twice: {remedy}.")
    rewards = {
        name: _load_reward(source, run, reader, workers)
        for name, source in zip(names, sources, strict=True)
        if source != DISCRIMINATOR
    }
    return Sources(names, weights, rewards)


def _load_reward(source: str, run: Run, reader: Reader, workers: int) -> RuleReward:
    prefix, rule = parted(source)
    if rule == DISCRIMINATOR:
        raise ValueError(
            f"{FLAG} {source!r}: a discriminator compares samples with the data already: give it without match:."
        )
    loaded = load_rule(rule, run, workers)
    return MatchingReward(source, loaded, reader, run) if prefix else RuleReward(source, loaded, reader)


def load_rule(source: str, run: Run, workers: int = 0) -> Rule:
    """The rule that *source* names: a function of a file, or a built-in one. ValueError if it will not do."""
    if found := _FUNCTION.fullmatch(source):
        rule = _function_of_file(source, found[1], found[2])
        return Workers(found[1], found[2], workers) if workers else rule
    name, _, argument = source.partition(":")
    if name not in REWARDS:
        raise ValueError(
            f"{FLAG} {source!r}: unknown reward {name!r}: give FILE.py:function, or one of "
            f"{', '.join(sorted([DISCRIMINATOR, *REWARDS]))}."
        )
    try:
        return REWARDS[name](argument, run)
    except ValueError as error:
        raise ValueError(f"{FLAG} {source!r}: {error}") from error


def _function_of_file(source: str, path: str, name: str) -> Rule:
    module = import_module_file(path, FLAG)
    rule = getattr(module, name, None)
    if not callable(rule):
        functions = [n for n, thing in vars(module).items() if inspect.isfunction(thing) and not n.startswith("_")]
        raise ValueError(
            f"{FLAG} {source!r}: the file has no function {name!r}: it has {', '.join(functions) or 'none at all'}."
        )
    try:
        inspect.signature(rule).bind([], tokens=[], lengths=[], ended=[], references=[], labels=None, later=None)
    except TypeError as error:
        raise ValueError(
            f"{FLAG} {source!r} cannot be called with samples and keywords ({error}): write it as "
            f"def {name}(samples, **kwargs)."
        ) from error
    return rule
