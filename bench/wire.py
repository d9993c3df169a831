"""The client's side of RFC 6455 as bytes: the request, masked frames out, server frames in. No socket."""

from __future__ import annotations

import os
from base64 import b64encode
from hashlib import sha1
from typing import Final

from bench.errors import Inexact

TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
FIN: Final = 0x80

FIRST: Final = 10**9  # the first number, so that all have ten digits
DIGITS: Final = 10

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3


class Upgrade:
    """One opening handshake: the request, and the check of its response."""

    def __init__(self, host: str, path: str, subprotocol: str = "", extensions: str = "") -> None:
        key = b64encode(os.urandom(16))
        self._accept = b64encode(sha1(key + _GUID, usedforsecurity=False).digest()).lower()
        self._protocol = f"sec-websocket-protocol: {subprotocol}\r\n".encode() if subprotocol else b""
        offer = f"Sec-WebSocket-Extensions: {extensions}\r\n" if extensions else ""
        self.request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key.decode()}\r\n{self._protocol.decode()}{offer}\r\n"
        ).encode()

    def check(self, head: bytes) -> None:
        """Raise `Inexact` unless the response is the 101 for this request; `head` is without the empty line."""
        said = head.lower() + b"\r\n"
        wanted = b"sec-websocket-accept: " + self._accept, self._protocol
        if not head.startswith(b"HTTP/1.1 101 ") or not all(field in said for field in wanted):
            raise Inexact(f"no upgrade: {head[:200]!r}")


def masked(first: int, payload: bytes) -> bytes:
    """Return one whole client frame, with a new masking key."""
    key = os.urandom(4)
    return _head(first, len(payload), key) + _xor(payload, key, 0)


def framed(payload: bytes) -> bytes:
    """Return the frame in which a server sends this text."""
    size = len(payload)
    if size < 126:
        return bytes((FIN | TEXT, size)) + payload
    if size < 65536:
        return bytes((FIN | TEXT, 126)) + size.to_bytes(2) + payload
    return bytes((FIN | TEXT, 127)) + size.to_bytes(8) + payload


class Numbered:
    """A text message whose copies differ only in a number of ten digits, in one place or several.

    It is masked once; for each copy, only the part from the first number to the last is masked again, since a generator in
    Python has no time for more.
    """

    def __init__(self, template: bytes) -> None:
        """`template` has a `%d` at each place of the number."""
        begin, end = template.index(b"%d"), template.rindex(b"%d") + 2
        before, self._middle, after = template[:begin], template[begin:end], template[end:]
        self._places = self._middle.count(b"%d")
        self._width = len(self._middle) + self._places * (DIGITS - 2)
        key = os.urandom(4)
        size = len(before) + self._width + len(after)
        self._before = _head(FIN | TEXT, size, key) + _xor(before, key, 0)
        self._after = _xor(after, key, len(before) + self._width)
        self._key = int.from_bytes(_stretched(key, len(before), self._width))

    def frame(self, number: int) -> bytes:
        """Return the frame with `FIRST + number`."""
        middle = int.from_bytes(self._middle % ((FIRST + number,) * self._places)) ^ self._key
        return self._before + middle.to_bytes(self._width) + self._after


def cut(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Return the complete frames at the start of `data` as (opcode, payload), and their total size in bytes."""
    found: list[tuple[int, bytes]] = []
    start = 0
    while (end := frame_end(data, start)) is not None and end <= len(data):
        begin = start + _HEAD[min(data[start + 1] - 125, 2)] if data[start + 1] > 125 else start + 2
        found.append((data[start] & 0x0F, data[begin:end]))
        start = end
    return found, start


def frame_end(data: bytes, start: int) -> int | None:
    """Return the end of the frame that begins at `start`, perhaps beyond the data; None if its header is incomplete."""
    if len(data) - start < 2:
        return None
    if data[start] not in _LEGAL:
        raise Inexact(f"a frame that begins with {data[start]:#04x}: only whole frames without extensions are expected")
    length = data[start + 1]
    if length < 126:
        return start + 2 + length
    if length > 127:
        raise Inexact("a masked frame from the server")
    begin = start + (4 if length == 126 else 10)
    return None if begin > len(data) else begin + int.from_bytes(data[start + 2 : begin])


_HEAD: Final = {1: 4, 2: 10}  # bytes before the payload, by the length byte minus 125
_LEGAL: Final = frozenset(FIN | opcode for opcode in (TEXT, CLOSE, PING, PONG))


def _head(first: int, size: int, key: bytes) -> bytes:
    if size < 126:
        return bytes((first, FIN | size)) + key
    if size < 65536:
        return bytes((first, FIN | 126)) + size.to_bytes(2) + key
    return bytes((first, FIN | 127)) + size.to_bytes(8) + key


def _stretched(key: bytes, place: int, size: int) -> bytes:
    return (key * (size // 4 + 2))[place % 4 :][:size]


def _xor(payload: bytes, key: bytes, place: int) -> bytes:
    size = len(payload)
    return (int.from_bytes(payload) ^ int.from_bytes(_stretched(key, place, size))).to_bytes(size)
