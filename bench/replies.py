"""Answers to one connection's requests, counted. Where they carry no number, their count is what can be checked."""

from __future__ import annotations

from typing import Final

from bench.errors import Inexact
from bench.link import Link, decode
from bench.wire import FIN, TEXT

_SHORT: Final = 126  # payloads below it have a header of two bytes


class Replies:
    """Counts answers of one type. Many of one length are counted by striding over their headers, without a loop."""

    def __init__(self, link: Link, kind: str) -> None:
        self._link = link
        self._kind = kind
        self._mark = b'"%b"' % kind.encode()
        self._size = 0  # of one frame, as the last one was
        self._head = b""

    def count(self, data: bytes) -> int:
        """How many answers `data` completes; raises `Inexact` for anything that is not one."""
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
