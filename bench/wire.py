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

FIRST: Final = 10**9  # what numbering begins with, so that every number has ten digits
DIGITS: Final = 10

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3


class Upgrade:
    """One opening handshake: the request, and the check of the answer."""

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
        """Raises `Inexact` for anything but the 101 that belongs to this request; `head` is without the empty line."""
        said = head.lower() + b"\r\n"
        wanted = b"sec-websocket-accept: " + self._accept, self._protocol
        if not head.startswith(b"HTTP/1.1 101 ") or not all(field in said for field in wanted):
            raise Inexact(f"no upgrade: {head[:200]!r}")


def masked(first: int, payload: bytes) -> bytes:
    """One whole client frame, under a key of its own."""
    key = os.urandom(4)
    return _head(first, len(payload), key) + _xor(payload, key, 0)


def framed(payload: bytes) -> bytes:
    """The frame in which a server sends this text."""
    size = len(payload)
    if size < 126:
        return bytes((FIN | TEXT, size)) + payload
    if size < 65536:
        return bytes((FIN | TEXT, 126)) + size.to_bytes(2) + payload
    return bytes((FIN | TEXT, 127)) + size.to_bytes(8) + payload


class Numbered:
    """A text message of which every copy differs by a number of ten digits only, in one place or several.

    Masking is done once, and again from the first number to the last: a generator written in Python has no time for more.
    """

    def __init__(self, template: bytes) -> None:
        """`template` has a `%d` at each of the number's places."""
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
        """The frame with `FIRST + number`."""
        middle = int.from_bytes(self._middle % ((FIRST + number,) * self._places)) ^ self._key
        return self._before + middle.to_bytes(self._width) + self._after


def cut(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The whole frames in front of `data` as (opcode, payload), and how many bytes they are."""
    found: list[tuple[int, bytes]] = []
    start = 0
    while (end := frame_end(data, start)) is not None and end <= len(data):
        begin = start + _HEAD[min(data[start + 1] - 125, 2)] if data[start + 1] > 125 else start + 2
        found.append((data[start] & 0x0F, data[begin:end]))
        start = end
    return found, start


def frame_end(data: bytes, start: int) -> int | None:
    """Where the frame that begins at `start` ends, perhaps beyond the data; None where its header is not there yet."""
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
