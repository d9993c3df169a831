"""A bounded cache of answers about texts that clients choose."""

from __future__ import annotations

from collections.abc import Hashable
from sys import getsizeof
from typing import Final, TypeVar

_ENTRY: Final = 128  # bytes: about what a dictionary takes for one

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(dict[K, V]):
    """A dictionary of answers, to be written with `keep`, `drop` and `forget` only.

    It has at most so many, of at most so many bytes, and begins anew if one more does not fit: what is asked often is soon
    there again.
    """

    __slots__ = ("_most", "_room", "_size")

    def __init__(self, most: int, room: int) -> None:
        """`most` entries of `room` bytes in all."""
        super().__init__()
        self._most = most
        self._room = room
        self._size = 0

    def keep(self, key: K, value: V, text: str, size: int = 0) -> V:
        """Keep the answer and return it. `text` is what of the key clients choose, `size` the bytes that the answer takes."""
        weight = _weight(text, size)
        if weight > self._room:
            return value
        if len(self) >= self._most or self._size + weight > self._room:
            self.forget()
        self._size += weight
        self[key] = value
        return value

    def drop(self, key: K, text: str, size: int = 0) -> None:
        """Drop the answer, given as it was kept, if there is one."""
        if key in self:
            del self[key]
            self._size -= _weight(text, size)

    def forget(self) -> None:
        """Drop all answers."""
        self.clear()
        self._size = 0


def _weight(text: str, size: int) -> int:
    return _ENTRY + getsizeof(text) + size
