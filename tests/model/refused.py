"""Input that serializers refuse: bytes that are no value, and values that cannot be passed on."""

from __future__ import annotations

import math
from typing import Any

import cbor2
import msgspec
import pytest


def hexes(*texts: str) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


NOT_IN_CBOR: list[tuple[Any, str]] = [
    (cbor2.CBORSimpleValue(0), "CBORSimpleValue cannot be passed on"),
    ([{"a": cbor2.CBORSimpleValue(99)}], "CBORSimpleValue cannot be passed on"),
    ({1: 2}, "the keys of a map must be text"),
    ([[{"a": {b"x": 1}}]], "the keys of a map must be text"),
    ({(1, 2): 3}, "the keys of a map must be text"),
    (cbor2.CBORTag(28, [1]), "semantic tag 28"),
    (cbor2.CBORTag(29, 0), "semantic tag 29"),
    (cbor2.CBORTag(256, ["a", "a"]), "semantic tag 256"),
    (cbor2.CBORTag(25, 0), "semantic tag 25"),
    (2**1016, "semantic tag 2"),
    (cbor2.CBORTag(2, "x"), "semantic tag 2"),
    ({2**64: 1}, "semantic tag 2"),
    ({(1, -(2**64) - 1): 1}, "semantic tag 3"),
    (cbor2.CBORTag(0, "yesterday"), "datetime"),
    (cbor2.CBORTag(1, math.nan), "datetime"),
    (cbor2.CBORTag(1, 2**60), "datetime"),
    (cbor2.CBORTag(1, cbor2.CBORTag(2, b"\7")), "semantic tag 2"),
]
NOT_IN_MESSAGEPACK: list[tuple[Any, str]] = [
    (msgspec.msgpack.Ext(5, b"x"), "Ext cannot be passed on"),
    ([{"a": msgspec.msgpack.Ext(-2, b"")}], "Ext cannot be passed on"),
    ({1: 2}, "the keys of a map must be text"),
    ([{"a": {None: 2}}], "the keys of a map must be text"),
]

MALFORMED: dict[str, list[bytes]] = {
    "json": [
        *(b"", b" ", b"[16,1,{},", b"[1]x", b"[1][1]", b"[01]", b"[nul]", b"[NaN]", b"[1e999]", b'["\xff"]', b"\xef\xbb\xbf[]"),
        *(b'["\\ud800"]', b'["\\udc00\\ud800"]', b'["\0"]', b"[1,]", b'{"a":1,}', b"[" + b"1" * 5000 + b"]"),
        *(b"[" * 100_000, b'{"a":' * 100_000),
    ],
    "msgpack": [
        *hexes("", "91", "9101ff", "c1", "91c1", "91a1ff", "91a3eda080", "dd7fffffff", "dfffffffff", "91c6ffffffff"),
        *hexes("91dbffffffff", "91c9ffffffff05", "91c70c" + "ff" * 13, "91d7" + "ff" * 9, "818001"),
        *(b"\x91" * 100_000, b"\x81\xa1a" * 100_000),
    ],
    "cbor": [
        *hexes("", "81", "8101ff", "ff", "81ff", "1c", "8161ff", "8163eda080", "817f61c361a9ff", "9bffffffffffffffff"),
        *hexes("9b1000000000000000", "bb1000000000000000", "5b1000000000000000", "7b7fffffffffffffff", "9a7fffffff"),
        *hexes("5f01ff", "9f01", "bf6161ff", "f818", "d81c81d81d00", "d81d00", "c2", "c25a7fffffff", "c001"),
        *(b"\x81" * 100_000, b"\x9f" * 100_000, b"\xa1aa" * 100_000, b"\xc1" * 100_000, b"\xd9\xd9\xf7" * 100_000),
    ],
}

# What may be a key and is no text, by serializer: the first bytes of an item each.
NO_TEXTS = {
    "msgpack": [b"\x01", b"\xcf" + b"\1" * 8, b"\xcb" + b"\0" * 8, b"\xff", b"\xc0", b"\x91\x01", b"\x81\xa1a\x01"],
    "cbor": [b"\x01", b"\x1b" + b"\1" * 8, b"\xfb" + b"\0" * 8, b"\x20", b"\xf6", b"\x81\x01", b"\xa1\x61a\x01", b"\xc1\x01"],
}
# A map that says it has 65,535 members, of which there is no more than is written behind it, and the way to it.
LARGE = {"msgpack": b"\xde\xff\xff", "cbor": b"\xb9\xff\xff"}
AROUND = {
    "msgpack": [b"", b"\x91", b"\x82\xa1a\x01\xa1b", b"\xdc\x00\x02\xc4\x02\xde\xdf", b"\xde\x00\x01\xd9\x01k"],
    "cbor": [b"", b"\x81", b"\xa2\x61a\x01\x61b", b"\x9f\x42\xb9\xbf", b"\xbf\x78\x01k", b"\x82\xd8\x40\x42ab"],
}
NUMBERED = [
    pytest.param(name, way + LARGE[name] + key, id=f"{name}-{key.hex()}-{way.hex()}")
    for name, keys in NO_TEXTS.items()
    for key in keys
    for way in AROUND[name]
]
