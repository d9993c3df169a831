"""Counters of the answers to one connection's requests. Answers without a number can only be checked by their count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from bench.errors import Inexact
from bench.link import Link, decode
from bench.wire import FIN, FIRST, TEXT

_SHORT: Final = 126  # payloads below it have a header of two bytes


class Counter(Protocol):
    """Counts the answers of one connection."""

    def count(self, data: bytes) -> int:
        """Return the number of answers that `data` completes. Raise `Inexact` for any other message."""


class Replies:
    """Counts answers of one type. Runs of equal length are counted by striding over their headers, without a loop."""

    def __init__(self, link: Link, kind: str) -> None:
        self._link = link
        self._kind = kind
        self._mark = b'"%b"' % kind.encode()
        self._size = 0  # of one frame, as the last one was
        self._head = b""

    def count(self, data: bytes) -> int:
        """Return the number of answers that `data` completes. Raise `Inexact` for any other message."""
        if self._size and not self._link.rest:
            count, left = divmod(len(data), self._size)
            if (
                not left
                and data[:: self._size] == self._head[:1] * count
                and data[1 :: self._size] == self._head[1:] * count
                and data.count(self._mark) == count
            ):
                return count
        found = self._link.frames(data)
        for payload in found:
            message = decode(payload)
            if message.get("type") != self._kind:
                raise Inexact(f"expected {self._kind}, got {payload[:200]!r}")
        if found and len(found[-1]) < _SHORT:
            self._size = len(found[-1]) + 2
            self._head = bytes((FIN | TEXT, len(found[-1])))
        return len(found)


class Answers:
    """Counts answers that carry the number of their request: each is checked, and they must arrive in the requests' order.

    `verify(number, message)` raises `Inexact` if a message is not the answer to that request.
    """

    def __init__(self, link: Link, verify: Callable[[int, Any], None]) -> None:
        self._link = link
        self._verify = verify
        self._next = FIRST

    def count(self, data: bytes) -> int:
        found = self._link.frames(data)
        for payload in found:
            self._verify(self._next, decode(payload))
            self._next += 1
        return len(found)
