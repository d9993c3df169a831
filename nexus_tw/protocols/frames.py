"""Frames as bytes: writes WebSocket server frames (RFC 6455), reads plain client frames; RawSocket frames. Stateless.

Of RFC 6455 the reader handles only the kind of frame that carries nearly every message: final, masked, uncompressed,
unfragmented and complete (section 5.2). It stops before any other byte, so that a full parser can continue from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from autobahn.websocket.xormasker import create_xor_masker

TEXT: Final = 0x81  # FIN and opcode 1
BINARY: Final = 0x82
PING: Final = 0x89

# RawSocket (WAMP, "RawSocket Transport"): frame types and sizes.
RAW_MESSAGE: Final = 0
RAW_PING: Final = 1
RAW_PONG: Final = 2
RAW_HEAD: Final = 4  # bytes before the payload
RAW_LARGEST: Final = 1 << 24  # bytes of payload

MANY: Final = 1 << 31  # no limit: more frames than any read contains

_RAW_WHOLE: Final = 0x08  # the payload has the maximum of 2^24 bytes, and the length field is 0
# Up to this size XOR of two integers is faster than setting up Autobahn's compiled masker.
_INTEGER_XOR: Final = 1000

_MASKED: Final = 0x80
_PLAIN: Final = (TEXT, BINARY)


def frame(first: int, payload: bytes) -> bytes:
    """Return one whole server frame with this first byte; servers do not mask (section 5.1)."""
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2) + payload
    return bytes((first, 127)) + size.to_bytes(8) + payload


def text(payload: bytes) -> bytes:
    return frame(TEXT, payload)


def binary(payload: bytes) -> bytes:
    return frame(BINARY, payload)


def rawsocket(payload: bytes, kind: int = RAW_MESSAGE) -> bytes:
    """Return one whole RawSocket frame; b"" if the payload exceeds the maximum of 16 MiB, which no client accepts."""
    size = len(payload)
    if size < RAW_LARGEST:
        return (kind << 24 | size).to_bytes(4) + payload
    return bytes((kind | _RAW_WHOLE, 0, 0, 0)) + payload if size == RAW_LARGEST else b""


def rawsocket_head(head: int) -> tuple[int, int]:
    """Return the kind and payload length from the four header bytes. Raise `ValueError` if they are invalid."""
    kind = head >> 24
    if kind <= RAW_PONG:
        return kind, head & 0xFFFFFF
    kind &= ~_RAW_WHOLE
    if kind > RAW_PONG or head & 0xFFFFFF:
        raise ValueError("not a frame of RawSocket")
    return kind, RAW_LARGEST


def unmask(mask: bytes, payload: bytes) -> bytes:
    """Return the payload unmasked (section 5.3); the mask's first byte belongs to the payload's first."""
    size = len(payload)
    if size > _INTEGER_XOR:
        return bytes(create_xor_masker(mask, size).process(payload))
    whole = (mask * ((size + 3) >> 2))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(whole)).to_bytes(size)


def split(data: bytes, limit: int, receive: Callable[[bytes, bool], bool], most: int = MANY) -> tuple[int, int]:
    """Pass the leading plain messages in `data`, at most `most`, to `receive(payload, is_binary)`.

    Stop before the first frame that is not plain, not complete, longer than `limit` (0: no limit) or text but not UTF-8, and
    after a message for which `receive` returns False. Return the bytes consumed and the number of messages.
    """
    size = len(data)
    start = 0
    count = 0
    while count < most and size - start >= 6:
        first = data[start]
        second = data[start + 1]
        if first not in _PLAIN or second < _MASKED:
            break
        length = second & 0x7F
        if length < 126:
            key = start + 2
        elif length == 126:
            key = start + 4
            length = int.from_bytes(data[start + 2 : key])
            if length < 126:  # not the shortest form: an error that the full parser names
                break
        else:
            break
        begin = key + 4
        end = begin + length
        if end > size or (limit and length > limit):
            break
        payload = unmask(data[key:begin], data[begin:end])
        if first == TEXT and not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                break
        start = end
        count += 1
        if not receive(payload, first == BINARY):
            break
    return start, count
