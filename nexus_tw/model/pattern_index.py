"""An index of subscriptions or registrations by name and pattern: finds those that apply to a name.

Names are looked up in a dictionary, matching patterns in a trie; results are cached until a pattern is added or removed. A rule
selects among the matches: `selecting`, `best` or `some`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from sys import getsizeof
from typing import Final, Generic, Protocol, TypeVar

from nexus_tw.model.cache import BoundedCache
from nexus_tw.model.names import Pattern, is_name, is_reserved
from nexus_tw.model.pattern_trie import PatternTrie

# The cache of results by name: at most so many entries, and bytes.
KEPT: Final = 16384
KEPT_BYTES: Final = 4 << 20


class Patterned(Protocol):
    """An object with a pattern."""

    pattern: Pattern


T = TypeVar("T")
P = TypeVar("P", bound=Patterned)


class PatternIndex(Generic[T]):
    """Values by pattern."""

    __slots__ = ("_exact", "_kept", "_rule", "_trie", "_wild")

    def __init__(self, rule: Callable[[str, Iterator[T]], tuple[T, ...]], room: int = KEPT_BYTES) -> None:
        """`rule` gets a name and the values of all matching patterns except the name itself, shortest prefix first, and returns
        those that apply. `room` bounds the cache of its results, in bytes."""
        self._rule = rule
        self._exact: dict[str, T] = {}
        self._wild: dict[str, T] = {}  # by the text of the pattern
        self._trie: PatternTrie[T] = PatternTrie()  # the same values
        self._kept: BoundedCache[str, tuple[T, ...]] = BoundedCache(KEPT, room)

    def __iter__(self) -> Iterator[T]:
        """Iterate over all values, first those of names."""
        return iter((*self._exact.values(), *self._wild.values()))

    def put(self, pattern: Pattern, value: T) -> None:
        """Add a value for a pattern that has none."""
        if pattern.exact:
            self._exact[pattern.text] = value
        else:
            self._wild[pattern.text] = value
            self._trie.put(pattern, value)
            self._kept.forget()

    def drop(self, pattern: Pattern) -> None:
        """Remove the value of a pattern that has one."""
        if pattern.exact:
            del self._exact[pattern.text]
        else:
            del self._wild[pattern.text]
            self._trie.drop(pattern)
            self._kept.forget()

    def get(self, pattern: Pattern) -> T | None:
        """Return the value of this pattern itself; None if it has none."""
        return (self._exact if pattern.exact else self._wild).get(pattern.text)

    def matching(self, name: str) -> list[T]:
        """Return all values whose pattern matches the name, without applying the rule."""
        exact = self._exact.get(name)
        return [*(() if exact is None else (exact,)), *self._trie.matching(name)]

    def find(self, name: str) -> tuple[T, ...]:
        """Return the value of the name itself, then those of patterns that the rule selects."""
        exact = self._exact.get(name)
        if not self._wild:
            return () if exact is None else (exact,)
        found = self._kept.get(name)
        if found is None:
            found = self._look(name)
        return found if exact is None else (exact, *found)

    def first(self, name: str) -> T | None:
        """Return the first value of `find`; None if there is none."""
        exact = self._exact.get(name)
        if exact is not None or not self._wild:
            return exact
        found = self._kept.get(name)
        if found is None:
            found = self._look(name)
        return found[0] if found else None

    def any(self, name: str) -> bool:
        """Return whether `find` returns any value."""
        if name in self._exact:
            return True
        if not self._wild:
            return False
        found = self._kept.get(name)
        return bool(self._look(name) if found is None else found)

    def _look(self, name: str) -> tuple[T, ...]:
        if not is_name(name):  # may be of any length, so it is not cached
            return ()
        found = self._rule(name, self._trie.matching(name))
        return self._kept.keep(name, found, name, getsizeof(found))


def selecting(name: str, found: Iterator[P]) -> tuple[P, ...]:
    """Return all values whose pattern selects the name: for a reserved name, only patterns with the same first component."""
    return tuple(one for one in found if one.pattern.selects(name))


def best(name: str, found: Iterator[P]) -> tuple[P, ...]:
    """Return the value with the longest prefix, else the wildcard with the most literal components from the left (WAMP:
    pattern-based registration). Return none for a reserved name: patterns do not apply to those."""
    one = None if is_reserved(name) else max(found, key=_specificity, default=None)
    return () if one is None else (one,)


def some(_name: str, found: Iterator[T]) -> tuple[T, ...]:
    """Return any one value; none if there is none."""
    return () if (one := next(found, None)) is None else (one,)


def _specificity(one: Patterned) -> tuple[bool, int, tuple[bool, ...]]:
    pattern = one.pattern
    if pattern.tail is not None:
        return True, len(pattern.text), ()
    return False, 0, tuple(part != "*" for part in pattern.parts)
