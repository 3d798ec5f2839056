"""Things that are chosen by name: built-in ones, and those that a user's file adds."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind.

    Args:
        kind: what they are, for messages, such as "discriminator"
        check: called with the name and the thing at registration; raises a ValueError if the thing will not do
    """

    def __init__(self, kind: str, check: Callable[[str, T], None] | None = None):
        self.kind = kind
        self._check = check
        self._known: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: make a class or function available as *name*.

        Raises:
            ValueError: something else has that name already, or the thing lacks what its kind needs
        """

        def add(thing: T) -> T:
            known = self._known.get(name)
            if known is not None and _address(known) != _address(thing):
                raise ValueError(
                    f"a {self.kind} named {name!r} is registered already ({'.'.join(_address(known))}): choose another "
                    "name."
                )
            if self._check is not None:
                self._check(name, thing)
            self._known[name] = thing
            return thing

        return add

    def __getitem__(self, name: str) -> T:
        """The thing of that name; ValueError, which lists the others, if there is none."""
        if name not in self._known:
            raise ValueError(f"unknown {self.kind} {name!r}: choose one of {', '.join(sorted(self._known))}.")
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def items(self) -> Iterator[tuple[str, T]]:
        """Names and things in the order of registration."""
        return iter(self._known.items())


def _address(thing: object) -> tuple[str, str]:
    """Module and name of a class or function: a file that is imported twice defines the same thing again."""
    return getattr(thing, "__module__", ""), getattr(thing, "__qualname__", repr(thing))
