"""Rewards by name, ``NAME`` or ``NAME:ARGUMENT``. A file of ``--module`` may register more::

@register_reward("vowels")
def vowels(argument, run):
    def rule(samples, **kwargs):
        return [sum(letter in argument for letter in sample) for sample in samples]
    return rule
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fairseq_seqvae.core.registry import Registry

# One number per sample, or None.
Rule = Callable[..., Any]


@dataclass(frozen=True)
class Run:
    """What a reward may know of the training that it belongs to.

    Attributes:
        dictionary: fairseq's
        training_texts: called without arguments, the sequences of the training data as a rule is given samples
        data: folder of the data
        training_tokens: called without arguments, the same sequences as numbers of symbols, without the end
    """

    dictionary: Any
    training_texts: Callable[[], Iterable[str]]
    data: str = ""
    training_tokens: Callable[[], Iterable[list[int]]] = tuple


# Called with the text after the colon, or "", and the run; a ValueError says what is wrong with that text.
Factory = Callable[[str, Run], Rule]


def _check(name: str, thing: Factory) -> None:
    if not name or set(name) & set(":,/"):
        raise ValueError(f"a reward cannot have the name {name!r}: colons, commas and slashes have a meaning.")


REWARDS: Registry[Factory] = Registry("reward", _check)


def register_reward(name: str) -> Callable[[Factory], Factory]:
    """Function decorator: make what makes a rule available as *name*."""
    return REWARDS.register(name)


def without_argument(name: str, argument: str) -> None:
    """Raise a ValueError if the reward *name*, which takes no argument, is given one."""
    if argument:
        raise ValueError(f"{name} takes no argument, but is given {argument!r}.")


def whole_number(name: str, argument: str, default: int) -> int:
    """A whole number of at least 1 from *argument*; *default* where it is empty."""
    if not argument:
        return default
    if not argument.isdecimal() or int(argument) < 1:
        raise ValueError(f"{name}:{argument} needs a whole number of at least 1, such as {name}:{default}.")
    return int(argument)
