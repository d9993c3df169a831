"""MessagePack."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from nexus_tw.model import slices
from nexus_tw.model.serializers.codec import DEPTH, Codec, Violation, join_binary
from nexus_tw.model.serializers.values import REFUSALS, check, reason, replace


class _Extensions:
    """The decoder of extension types; `undefined` counts those decoded as None."""

    undefined = 0

    def __call__(self, code: int, data: memoryview) -> Any:
        content = bytes(data)
        if (code, content) == (0, b"\0"):
            self.undefined += 1
            return None
        return msgspec.msgpack.Ext(code, content)


_extensions: Final = _Extensions()
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(ext_hook=_extensions).decode


def decoder(kind: Any) -> Callable[[bytes], Any]:
    """Return the decoder of one type, which raises `REFUSALS`. For large maps, call `slices.check_keys` first."""
    return msgspec.msgpack.Decoder(kind, ext_hook=_extensions).decode


def _within_64_bits(item: Any) -> Any:
    if type(item) is int and not -(2**63) <= item < 2**64:
        try:
            return float(item)
        except OverflowError:
            return math.inf if item > 0 else -math.inf
    if type(item) is datetime:
        try:
            _encode(item)
        except OverflowError:
            return item.isoformat()
    return item


class _MessagePack(Codec):
    name = "msgpack"
    number = 2
    binary = True
    lists = frozenset((*range(0x90, 0xA0), 0xDC, 0xDD))
    maps = frozenset((*range(0x80, 0x90), 0xDE, 0xDF))

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        try:
            if slices.has_large_maps(data):
                slices.check_keys(data)
            value = _decode(data)
        except REFUSALS as error:
            raise Violation(reason(error)) from None
        check(value, depth)
        return value

    def part(self, data: bytes, depth: int = DEPTH) -> tuple[Any, bytes]:
        before = _extensions.undefined
        value = self.value(data, depth)
        return value, (data if _extensions.undefined == before else self.encode(value))

    def encode(self, value: Any) -> bytes:
        try:
            return _encode(value)
        except OverflowError:
            return _encode(replace(value, _within_64_bits))

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        return join_binary(self.encode(header), b"\x90", args, kwargs)


MSGPACK: Final[Codec] = _MessagePack()
