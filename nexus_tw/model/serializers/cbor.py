"""CBOR (RFC 8949)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Any, Final

import cbor2

from nexus_tw.model.serializers.codec import DEPTH, Codec, Violation, join_binary
from nexus_tw.model.serializers.values import REFUSALS, check, reason, replace

MORE: Final = "more bytes than there are to the value"

_DATES: Final = frozenset((0, 1))
_BIGNUMS: Final = frozenset((2, 3))
_NEGATIVE: Final = 3
_UUID: Final = 37
_REFERENCES: Final = frozenset((25, 28, 29, 256))  # a short message that stands for a very long one, or for one without end


def _reference(_content: Any, _inside_key: bool) -> Any:
    raise ValueError("references are not taken")


def _fits(tag: int, content: Any) -> bool:
    """Whether this is a UUID or a typed array, and nobody who knows such can find a mistake in it."""
    if type(content) is not bytes:
        return False
    if tag == _UUID:
        return len(content) == 16
    # RFC 8746 section 2.1: the bits of the tag; 76 is none.
    return 64 <= tag < 88 and tag != 76 and len(content) % (1 << (tag >> 4 & 1) + (tag & 3)) == 0


class Tags(dict[int, Callable[[Any, bool], Any]]):
    """What is made of each tag. cbor2 asks here first: its own decoders compile regular expressions, parse mail, and more.

    `removed` tells afterwards whether there was one of which nothing but the content is taken: any that is not understood, or
    that is inside of another one.
    """

    removed = False
    _asked = 0  # for how many, each of them before it is known what is inside

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        if tag in _DATES:
            raise KeyError(tag)
        if tag in _REFERENCES:
            return _reference
        self._asked += 1
        return partial(self._bignum if tag in _BIGNUMS else self._other, tag, self._asked)

    def _bignum(self, tag: int, asked: int, content: Any, inside_key: bool) -> int:
        # As keys they could be chosen so that all have one hash.
        if type(content) is not bytes or len(content) > 127 or inside_key:
            raise ValueError("no bignum, larger than any double, or in a key")
        self.removed |= asked != self._asked
        number = int.from_bytes(content)
        return -1 - number if tag == _NEGATIVE else number

    def _other(self, tag: int, asked: int, content: Any, _inside_key: bool) -> Any:
        self.removed |= asked != self._asked or not _fits(tag, content)
        return content


# Of a stream, with `semantic_decoders=Tags()`; its `decode` returns one item after the other, raising `REFUSALS`.
# Keys that are neither text nor bytes are refused before they are hashed.
decoder: Final = partial(cbor2.CBORDecoder, max_depth=DEPTH, strict_hashable_types=True)


def without_undefined(value: Any) -> Any:
    """Return an item as it was decoded with null for everything in it that is undefined."""
    return replace(value, _undefined_as_null)


def _undefined_as_null(item: Any) -> Any:
    return None if item is cbor2.undefined else item


def load(data: bytes) -> Any:
    """Return the one item that these bytes are. Raise `Violation` if they are none; `check` has the last word on values."""
    stream = BytesIO(data)
    try:
        value = decoder(stream, semantic_decoders=Tags()).decode()
    except REFUSALS as error:
        raise Violation(reason(error)) from None
    if stream.tell() != len(data):
        raise Violation(MORE)
    return without_undefined(value) if b"\xf7" in data else value


class _Cbor(Codec):
    name = "cbor"
    number = 3
    binary = True
    lists = frozenset((*range(0x80, 0x9C), 0x9F))
    maps = frozenset((*range(0xA0, 0xBC), 0xBF))

    def value(self, data: bytes, depth: int = DEPTH) -> Any:
        value = load(data)
        check(value, depth)
        return value

    def encode(self, value: Any) -> bytes:
        return cbor2.dumps(value)

    def join(self, header: Sequence[Any], args: bytes | None = None, kwargs: bytes | None = None) -> bytes:
        return join_binary(self.encode(header), b"\x80", args, kwargs)


CBOR: Final[Codec] = _Cbor()
