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
_REFERENCES: Final = frozenset((25, 28, 29, 256))  # they let a short message expand to a very long or infinite one


def _reference(_content: Any, _inside_key: bool) -> Any:
    raise ValueError("references are not taken")


def _fits(tag: int, content: Any) -> bool:
    """Return whether this is a UUID or a typed array that every decoder of these tags accepts."""
    if type(content) is not bytes:
        return False
    if tag == _UUID:
        return len(content) == 16
    # RFC 8746 section 2.1: the bits of the tag; 76 is reserved.
    return 64 <= tag < 88 and tag != 76 and len(content) % (1 << (tag >> 4 & 1) + (tag & 3)) == 0


class Tags(dict[int, Callable[[Any, bool], Any]]):
    """The decoder of each tag. It replaces cbor2's own, which compile regular expressions, parse mail, and more.

    After decoding, `removed` is whether a tag was removed and only its content kept: a tag that is not understood, or that
    contains another one.
    """

    removed = False
    _asked = 0  # tags so far; counted before their content is decoded

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        if tag in _DATES:
            raise KeyError(tag)
        if tag in _REFERENCES:
            return _reference
        self._asked += 1
        return partial(self._bignum if tag in _BIGNUMS else self._other, tag, self._asked)

    def _bignum(self, tag: int, asked: int, content: Any, inside_key: bool) -> int:
        # As keys they could be chosen to have equal hashes.
        if type(content) is not bytes or len(content) > 127 or inside_key:
            raise ValueError("no bignum, larger than any double, or in a key")
        self.removed |= asked != self._asked
        number = int.from_bytes(content)
        return -1 - number if tag == _NEGATIVE else number

    def _other(self, tag: int, asked: int, content: Any, _inside_key: bool) -> Any:
        self.removed |= asked != self._asked or not _fits(tag, content)
        return content


# Call it with a stream and `semantic_decoders=Tags()`; its `decode` returns one item after the other, raising `REFUSALS`.
# Keys that are neither text nor bytes are refused before they are hashed.
decoder: Final = partial(cbor2.CBORDecoder, max_depth=DEPTH, strict_hashable_types=True)


def without_undefined(value: Any) -> Any:
    """Return a decoded item with each undefined value in it replaced by None."""
    return replace(value, _undefined_as_null)


def _undefined_as_null(item: Any) -> Any:
    return None if item is cbor2.undefined else item


def load(data: bytes) -> Any:
    """Return the one item that these bytes encode. Raise `Violation` if they encode none; `check` validates its values."""
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
