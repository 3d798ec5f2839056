"""Whether a sequence contains something: a regular expression, or words."""

import re
from typing import Any

from fairseq_seqvae.rewards.registry import Rule, Run, register_reward


@register_reward("regex")
def regex(argument: str, run: Run) -> Rule:
    """1 for a sample in which the regular expression *argument* is found anywhere, else 0."""
    if not argument:
        raise ValueError("give a regular expression, such as regex:^no\\b.")
    try:
        pattern = re.compile(argument)
    except re.error as error:
        raise ValueError(f"{argument!r} is no regular expression ({error}).") from error

    def rule(samples: list[str], **kwargs: Any) -> list[float]:
        return [float(pattern.search(sample) is not None) for sample in samples]

    return rule


@register_reward("contains")
def contains(argument: str, run: Run) -> Rule:
    """1 for a sample that has the words of *argument* as whole words, one after the other, else 0."""
    words = argument.split()
    if not words:
        raise ValueError("give a word, such as contains:love.")

    def rule(samples: list[str], **kwargs: Any) -> list[float]:
        return [float(f" {' '.join(words)} " in f" {' '.join(sample.split())} ") for sample in samples]

    return rule
