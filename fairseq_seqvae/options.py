"""Options as data: default, help text, bound and relations stand beside the option, and one function checks them.

A config is a dataclass whose fields :func:`option` makes. What its options must fulfil besides is a list of
:class:`Relation` in its attribute ``RELATIONS`` (without an annotation, which fairseq would take for a flag)::

    @dataclass
    class Sizes(FairseqDataclass):
        low: int = option(1, "size of the lower layer", at_least(1))
        high: int = option(0, "size of the upper layer", at_least(0), {0: "no upper layer"})
        RELATIONS = [Relation(("low", "high"), lambda low, high: high <= low, "--high {high} is above --low {low}.")]

A config that inherits keeps bounds and relations, also of a field to which it gives only another default.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field
from typing import Any

# Where `option` puts its data among the metadata of a field. fairseq reads other keys only.
_KEY = "option"
_ABSENT = object()


@dataclass(frozen=True)
class Bound:
    """An interval of numbers; without ends, any finite number.

    Attributes:
        low: lower end, or None
        high: upper end, or None
        low_open: the lower end itself is outside
        high_open: the upper end itself is outside
        infinite: an interval without an upper end holds infinity too
    """

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    infinite: bool = False

    def __contains__(self, value: Any) -> bool:
        if not isinstance(value, (int, float)) or math.isnan(value):
            return False
        if math.isinf(value) and not self.infinite:
            return False
        above = self.low is None or (value > self.low if self.low_open else value >= self.low)
        return above and (self.high is None or (value < self.high if self.high_open else value <= self.high))

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"in {'(' if self.low_open else '['}{self.low}, {self.high}{')' if self.high_open else ']'}"
        if self.low is not None:
            return f"{'above' if self.low_open else 'at least'} {self.low}"
        if self.high is not None:
            return f"{'below' if self.high_open else 'at most'} {self.high}"
        return "of any size"

    def demand(self, value: Any) -> str:
        """What *value*, which is outside, must fulfil, as the end of a sentence."""
        if not isinstance(value, (int, float)):
            return "must be a number"
        if self.low is not None and self.high is not None:
            return f"must lie {self}"
        return f"must be {self}" if self.infinite or math.isfinite(value) else "must be finite"


def at_least(low: float) -> Bound:
    """Finite numbers from *low* on."""
    return Bound(low=low)


def above(low: float, infinite: bool = False) -> Bound:
    """Finite numbers above *low*, and infinity where *infinite* says so."""
    return Bound(low=low, low_open=True, infinite=infinite)


def at_most(high: float) -> Bound:
    """Finite numbers up to *high*."""
    return Bound(high=high)


def between(low: float, high: float, low_open: bool = False, high_open: bool = False) -> Bound:
    """Numbers from *low* to *high*; an open end is outside."""
    return Bound(low, high, low_open, high_open)


ANY_NUMBER = Bound()  # says that an option has no bound: any finite number is meant


@dataclass(frozen=True)
class Option:
    """What is known of an option besides its name, type and default.

    Attributes:
        text: what it is, with its unit
        bound: of a number; None: the option is no number
        special: what single values mean, as in ``{0: "off"}``
        group: heading under which the option is listed; "": that of the option before
    """

    text: str
    bound: Bound | None = None
    special: Mapping[Any, str] = field(default_factory=dict)
    group: str = ""

    @property
    def notes(self) -> str:
        """Meaning of the special values, as in "0: off"."""
        return ", ".join(f"{value}: {meaning}" for value, meaning in self.special.items())

    @property
    def help(self) -> str:
        """Text and notes, for a parser."""
        return f"{self.text}; {self.notes}" if self.special else self.text


@dataclass(frozen=True)
class Relation:
    """What one or several options must fulfil besides their bounds.

    Attributes:
        names: of the options; the relation is checked only where all of them are known
        holds: called with their values, in this order
        sentence: what is wrong and what to do; names the flags, and ``{name}`` is the value of an option
    """

    names: tuple[str, ...]
    holds: Callable[..., bool]
    sentence: str


def option(
    default: Any,
    text: str,
    bound: Bound | None = None,
    special: Mapping[Any, str] | None = None,
    group: str = "",
) -> Any:
    """The field of a dataclass for an option; the arguments are those of :class:`Option`."""
    known = Option(text, bound, special or {}, group)
    return field(default=default, metadata={"help": known.help, _KEY: known})


def flag(name: str) -> str:
    """An option's name as users type it."""
    return f"--{name.replace('_', '-')}"


def whole_numbers(text: str) -> list[int]:
    """Whole numbers of at least 1 from a list such as "1,2,3"; an empty list if *text* is something else."""
    try:
        found = [int(part) for part in str(text).split(",")]
    except ValueError:
        return []
    return found if min(found) >= 1 else []


def options_of(config: type) -> Iterator[tuple[Field, Option]]:
    """The fields of a dataclass that :func:`option` made, in their order, also where a subclass set a new default."""
    for name, current in config.__dataclass_fields__.items():  # type: ignore[attr-defined]
        for base in config.__mro__:
            found = vars(base).get("__dataclass_fields__", {}).get(name)
            if found is not None and _KEY in found.metadata:
                yield current, found.metadata[_KEY]
                break


def relations_of(config: type) -> Iterator[Relation]:
    """The relations of a dataclass and of those that it inherits from, the oldest first."""
    for base in reversed(config.__mro__):
        yield from vars(base).get("RELATIONS", ())


def check(cfg: Any, config: type, **given: Any) -> None:
    """Raise a ValueError if *cfg* violates a bound or a relation of the dataclass *config*.

    Bounds come first. An option that *cfg* does not have is not checked; None is a value where it is the default.

    Args:
        cfg: the values: an instance of *config*, or anything that has them as attributes
        config: a dataclass
        given: values of further options that relations name
    """
    for current, known in options_of(config):
        if known.bound is None:
            continue
        value = getattr(cfg, current.name, _ABSENT)
        if value is _ABSENT or (value is None and current.default is None):
            continue
        if value not in known.bound:
            notes = f" ({known.notes})" if known.special else ""
            raise ValueError(f"{flag(current.name)} {known.bound.demand(value)} but is {value}{notes}.")
    for relation in relations_of(config):
        values = {name: given.get(name, getattr(cfg, name, _ABSENT)) for name in relation.names}
        if all(value is not _ABSENT for value in values.values()) and not relation.holds(*values.values()):
            raise ValueError(relation.sentence.format_map(values))
