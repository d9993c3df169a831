"""A map from keys to several values each, in insertion order. A key with one value, the usual case, needs no container."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Multimap(Generic[K, V]):
    """Values by key, each at most once per key. A value is neither an `OrderedDict` nor None."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[K, V | OrderedDict[V, None]] = {}

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._values)

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)

    def add(self, key: K, value: V) -> bool:
        """Append the value to those of the key, unless it is one of them. Return whether the key is new."""
        there = self._values.get(key)
        if there is None:
            self._values[key] = value
            return True
        if isinstance(there, OrderedDict):
            there[value] = None
        elif there is not value:
            self._values[key] = OrderedDict.fromkeys((there, value))
        return False

    def first(self, key: K) -> V | None:
        """Return the oldest value of the key; None if there is none."""
        there = self._values.get(key)
        return next(iter(there)) if isinstance(there, OrderedDict) else there

    def all(self, key: K) -> list[V]:
        """Return the values of the key, oldest first."""
        there = self._values.get(key)
        if isinstance(there, OrderedDict):
            return list(there)
        return [] if there is None else [there]

    def each(self, key: K) -> Iterator[V]:
        """Iterate over the values of the key, oldest first; they must not change meanwhile."""
        there = self._values.get(key)
        if isinstance(there, OrderedDict):
            return iter(there)
        return iter(() if there is None else (there,))

    def remove(self, key: K, value: V) -> bool:
        """Remove a value. Return whether it was the key's last one. Raise `KeyError` if there is no such value."""
        there = self._values[key]
        if isinstance(there, OrderedDict):
            del there[value]
            if there:
                return False
        elif there is not value:
            raise KeyError(value)
        del self._values[key]
        return True

    def compact(self) -> None:
        """Release the memory of removed keys, which a dictionary keeps."""
        self._values = dict(self._values)
