"""How many symbols a sequence should have."""

import re
from typing import Any

from fairseq_seqvae.rewards.registry import Rule, Run, register_reward

_SYNTAX = re.compile(r"(?P<least>>=)?(?P<most><=)?(?P<low>\d+)(-(?P<high>\d+))?")


@register_reward("length")
def length(argument: str, run: Run) -> Rule:
    """1 for a sample whose number of words lies in the range, else 1 / (1 + how many it is off).

    Args:
        argument: ``7`` (exactly), ``4-8``, ``<=8`` or ``>=4``; words are what blanks separate
    """
    low, high = _bounds(argument)

    def rule(samples: list[str], **kwargs: Any) -> list[float]:
        counts = [len(sample.split()) for sample in samples]
        return [1 / (1 + max(low - count, count - high, 0)) for count in counts]

    return rule


def _bounds(argument: str) -> tuple[float, float]:
    found = _SYNTAX.fullmatch(argument)
    if not found or (found["least"] or found["most"]) and found["high"] or (found["least"] and found["most"]):
        raise ValueError("give a number of words: length:7, length:4-8, length:<=8 or length:>=4.")
    low, high = float(found["low"]), float(found["high"] or found["low"])
    if low > high:
        raise ValueError(f"length:{argument} ends before it begins: exchange the numbers.")
    return (low, float("inf")) if found["least"] else (0.0, low) if found["most"] else (low, high)
