"""JSON (RFC 8259)."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from nexus_tw.model.serializers.codec import DEPTH, Codec, Violation
from nexus_tw.model.serializers.values import REFUSALS, check, reason, replace

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


def decoder(kind: Any) -> Callable[[bytes], Any]:
    """Return the decoder of one type, which raises `REFUSALS`."""
    return msgspec.json.Decoder(kind).decode


def _holds_bytes(items: Any) -> bool:
    for item in items:
        kind = type(item)
        if kind is bytes:
            return True
        if kind is dict:
            if item and _holds_bytes(item.values()):
                return True
        elif (kind is list or kind is tuple) and item and _holds_bytes(item):
            return True
    return False


def _bytes_as_text(item: Any) -> Any:
    return "\0" + binascii.b2a_base64(item, newline=False).decode() if type(item) is bytes else item


def _text_as_bytes(item: Any) -> Any:
    if type(item) is str and item.startswith("\0"):
        try:
            return binascii.a2b_base64(item[1:], strict_mode=True)
        except ValueError:
            return item
    return item


class _Json(Codec):
    name = "json"
    number = 1
    binary = False
    lists = frozenset(b"[")
    maps = frozenset(b"{")

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        try:
            value = _decode(data)
        except REFUSALS as error:
            raise Violation(reason(error)) from None
        check(value, depth)
        # JSON has only one spelling of NUL.
        return replace(value, _text_as_bytes) if b"\\u0000" in data else value

    def encode(self, value: Any) -> bytes:
        return _encode(replace(value, _bytes_as_text) if _holds_bytes((value,)) else value)

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        head = self.encode(header)
        if kwargs is not None:
            return b"%b,%b,%b]" % (head[:-1], b"[]" if args is None else args, kwargs)
        return head if args is None else b"%b,%b]" % (head[:-1], args)


JSON: Final[Codec] = _Json()
