"""Decodes the chunked transfer coding of a request's body (RFC 9112 section 7.1).

Twisted's own decoder spends some 17 µs on each chunk, and a read can hold ten thousand. This one passes on many together, and
stops at once when the rest is not wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from nexus_tw.transport.opening import CRLF, END

LINE: Final = 1024  # bytes of a line with a chunk's size and its extensions
TRAILERS: Final = 65536  # bytes of all fields after the last chunk
TOGETHER: Final = 128  # chunks that are passed on as one

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]+)(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")


class Malformed(Exception):
    """Raised for bytes that are not valid chunks."""


class Chunks:
    """Decodes one body. Ignores extensions and trailers."""

    def __init__(self, received: Callable[[bytes, int], bool], ended: Callable[[bytes], None]) -> None:
        """`received` gets bytes of the body, and the number of their chunks. Once it returns false, decoding stops.
        `ended` gets the bytes after the body."""
        self._received = received
        self._ended = ended
        self._held = b""  # an incomplete line or end of a chunk
        self._left = 0  # bytes of the chunk that are still to come
        self._inside = False  # inside a chunk, before its end
        self._trailed: int | None = None  # bytes of trailers that were skipped; None before them
        self._unwanted = False

    def dataReceived(self, data: bytes) -> None:
        """Decode more bytes. Raise `Malformed` if they are not valid chunks."""
        if self._unwanted:
            return
        data, self._held = self._held + data, b""
        if self._trailed is not None:
            self._pass_over(data)
            return
        parts: list[bytes] = []
        start = 0
        while start < len(data):
            if self._left:
                part = data[start : start + self._left]
                parts.append(part)
                start += len(part)
                self._left -= len(part)
                if len(parts) == TOGETHER and not self._hand_over(parts):
                    return
            elif self._inside:
                if len(data) - start < len(CRLF):
                    break
                if not data.startswith(CRLF, start):
                    raise Malformed("a chunk does not end where it should")
                start += len(CRLF)
                self._inside = False
            else:
                line = _SIZE.match(data, start)
                if line is None:
                    _check_unfinished(data, start)
                    break
                if line.end() - len(CRLF) - start >= LINE:
                    raise Malformed("a line is too long")
                start = line.end()
                self._left = int(line[1], 16)
                self._inside = self._left > 0
                if not self._inside:
                    if self._hand_over(parts):
                        self._trailed = 0
                        self._pass_over(CRLF + data[start:])  # the end is the first empty line, which may be the first of all
                    return
        self._held = data[start:]
        self._hand_over(parts)

    def _hand_over(self, parts: list[bytes]) -> bool:
        """Return whether more is wanted."""
        if parts:
            self._unwanted = not self._received(b"".join(parts), len(parts))
            parts.clear()
        return not self._unwanted

    def _pass_over(self, data: bytes) -> None:
        assert self._trailed is not None
        end = data.find(END)
        if end < 0:
            self._held = data[-len(END) + 1 :]
        self._trailed += len(data) - len(self._held) if end < 0 else end
        if self._trailed > TRAILERS:
            raise Malformed("the trailers are too long")
        if end >= 0:
            self._ended(data[end + len(END) :])


def _check_unfinished(data: bytes, start: int) -> None:
    """Raise `Malformed` unless this can be the beginning of a line with a chunk's size."""
    if data.find(CRLF, start) >= 0 or len(data) - start > LINE:
        raise Malformed("a line does not hold the size of a chunk")
