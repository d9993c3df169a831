"""A bounded cache of results for keys that clients choose."""

from __future__ import annotations

from collections.abc import Hashable
from sys import getsizeof
from typing import Final, TypeVar

_ENTRY: Final = 128  # bytes: about what one entry of a dictionary takes

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(dict[K, V]):
    """A dictionary of results, to be written with `keep`, `drop` and `forget` only.

    Its number of entries and their bytes are bounded. If one more does not fit, it is cleared first: frequent keys soon
    come back.
    """

    __slots__ = ("_most", "_room", "_size")

    def __init__(self, most: int, room: int) -> None:
        """Hold at most `most` entries, of at most `room` bytes together."""
        super().__init__()
        self._most = most
        self._room = room
        self._size = 0

    def keep(self, key: K, value: V, text: str, size: int = 0) -> V:
        """Keep the result and return it. `text` is the part of the key that clients choose, `size` the result's bytes."""
        weight = _weight(text, size)
        if weight > self._room:
            return value
        if len(self) >= self._most or self._size + weight > self._room:
            self.forget()
        self._size += weight
        self[key] = value
        return value

    def drop(self, key: K, text: str, size: int = 0) -> None:
        """Remove the result, if there is one. `text` and `size` must be those given to `keep`."""
        if key in self:
            del self[key]
            self._size -= _weight(text, size)

    def forget(self) -> None:
        """Remove all results."""
        self.clear()
        self._size = 0


def _weight(text: str, size: int) -> int:
    return _ENTRY + getsizeof(text) + size
