"""Serializers: what goes through them and what does not."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import cbor2
import msgpack
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus_tw.model import slices
from nexus_tw.model.payloads import Payload
from nexus_tw.model.serializers import CBOR, CODECS, JSON, MSGPACK, Codec, Violation
from tests.model.refused import MALFORMED, NOT_IN_CBOR, NOT_IN_MESSAGEPACK, NUMBERED, hexes
from tests.model.samples import BINARY_VALUES, JSON_VALUES, SHARED_VALUES

EACH = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
NOON = datetime(2026, 3, 21, 12, 0, 0, 500_000, UTC)


def test_they_are_known_by_the_names_and_numbers_of_the_specification() -> None:
    assert {name: (codec.name, codec.number, codec.binary) for name, codec in CODECS.items()} == {
        "json": ("json", 1, False),
        "msgpack": ("msgpack", 2, True),
        "cbor": ("cbor", 3, True),
    }


# --- values -------------------------------------------------------------------------------------------------------------


@given(JSON_VALUES)
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    for codec in CODECS.values():
        assert codec.value(codec.encode(value)) == value


@given(BINARY_VALUES)
def test_the_binary_ones_know_bytes_and_dates_too(value: Any) -> None:
    for codec in (MSGPACK, CBOR):
        assert codec.value(codec.encode(value)) == value


@given(SHARED_VALUES, st.permutations(list(CODECS)))
def test_from_one_to_the_next_nothing_is_lost(value: Any, way: list[str]) -> None:
    passed = value
    for name in way:
        passed = CODECS[name].value(CODECS[name].encode(passed))
    assert passed == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", b'"\\u0000"'),
        (b"\x00\xff", b'"\\u0000AP8="'),
        ({"a": [b"x"]}, b'{"a":["\\u0000eA=="]}'),
        ((1, (b"x",)), b'[1,["\\u0000eA=="]]'),
        (NOON, b'"2026-03-21T12:00:00.500000Z"'),
        ([math.nan, math.inf, -math.inf], b"[null,null,null]"),
        (2**200, str(2**200).encode()),
    ],
)
def test_what_json_lacks_is_written_by_the_rules(value: Any, text: bytes) -> None:
    assert JSON.encode(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"\\u0000"', b""),
        (b'"\\u0000AP8="', b"\x00\xff"),
        (b'{"a":["\\u0000eA=="],"\\u0000eA==":1}', {"a": [b"x"], "\0eA==": 1}),
        (b'"\\\\u0000eA=="', "\\u0000eA=="),
        (b'"x\\u0000eA=="', "x\0eA=="),
        (b'"\\u0000eA"', "\0eA"),  # no base64
        (b'"\\u0000!!!!"', "\0!!!!"),
        (b'"\\u0000\\u00e4\\u00e4\\u00e4\\u00e4"', "\0ääää"),
        (b'"\\u0000\\ud83d\\ude00"', "\0\U0001f600"),
    ],
)
def test_in_json_only_nul_and_base64_are_bytes(text: bytes, value: Any) -> None:
    assert JSON.value(text) == value


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (2**64, float(2**64)),
        (-(2**63) - 1, -float(2**63)),
        ({"a": [2**70, "b", 7]}, {"a": [float(2**70), "b", 7]}),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "0001-01-01T00:00:00+01:00"),
        ([2**64, NOON], [float(2**64), NOON]),
    ],
)
def test_what_messagepack_lacks_is_written_by_the_rules(value: Any, read: Any) -> None:
    assert MSGPACK.value(MSGPACK.encode(value)) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (cbor2.undefined, None),
        ([1, {"a": cbor2.undefined}], [1, {"a": None}]),
        (2**64, 2**64),
        (-(2**200), -(2**200)),
        (2**1016 - 1, 2**1016 - 1),
        (NOON, NOON),
        (cbor2.CBORTag(1, 1.5), datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)),
        (cbor2.CBORTag(55799, [1]), [1]),
        (Decimal("1.5"), [-1, 15]),
        (Fraction(1, 3), [1, 3]),
        (UUID(int=1), bytes(15) + b"\1"),
        (cbor2.CBORTag(35, "[a-z"), "[a-z"),  # a regular expression is not compiled
        (cbor2.CBORTag(36, "Content-Type: x"), "Content-Type: x"),
        (cbor2.CBORTag(258, [1, 1]), [1, 1]),
        (cbor2.CBORTag(2**64 - 1, {"a": 1}), {"a": 1}),
    ],
)
def test_of_what_cbor_has_more_of_there_is_the_content(value: Any, read: Any) -> None:
    found = CBOR.value(cbor2.dumps(value))
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize(("value", "why"), NOT_IN_CBOR)
def test_what_cbor_may_not_hold(value: Any, why: str) -> None:
    with pytest.raises(Violation) as caught:
        CBOR.value(cbor2.dumps(value))
    assert why in str(caught.value)


@pytest.mark.parametrize(("value", "why"), NOT_IN_MESSAGEPACK)
def test_what_messagepack_may_not_hold(value: Any, why: str) -> None:
    with pytest.raises(Violation) as caught:
        MSGPACK.value(msgspec.msgpack.encode(value))
    assert why in str(caught.value)


@EACH
def test_depth_counts_lists_and_maps(codec: Codec) -> None:
    value: Any = [{"a": [{}]}]
    assert codec.value(codec.encode(value), 4) == value
    with pytest.raises(Violation, match="nested deeper than 3"):
        codec.value(codec.encode(value), 3)
    assert codec.value(codec.encode(7), 0) == 7


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, each in MALFORMED.items() for data in each])
def test_what_is_malformed_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(Violation):
        CODECS[name].value(data)


@pytest.mark.parametrize("size", [1, 5000, 200_000])
@EACH
def test_nothing_may_follow(codec: Codec, size: int) -> None:
    with pytest.raises(Violation):
        codec.value(codec.encode([34, 1, 2]) + b"\x01" * size)
    long = codec.encode(["x" * size])
    assert codec.value(long) == ["x" * size]
    with pytest.raises(Violation):
        codec.value(long + b"\0")


def test_lengths_that_are_only_announced_take_no_memory() -> None:
    program = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
from nexus_tw.model.serializers import CBOR, MSGPACK, Violation
for codec, hexes in (
    (MSGPACK, ("dd7fffffff", "df7fffffff", "c67fffffff", "db7fffffff", "c97fffffff05")),
    (CBOR, ("9a7fffffff", "ba7fffffff", "5a7fffffff", "7a7fffffff", "9b00000fffffffffff", "5b00000fffffffffff")),
):
    for each in hexes:
        for lead in ("", "91", "9110"):
            data = bytes.fromhex(lead.replace("9", "8") + each if codec is CBOR else lead + each)
            try:
                codec.value(data)
            except Violation:
                continue
            raise SystemExit(each)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# --- parts of messages ------------------------------------------------------------------------------------------------------


LISTS = st.lists(SHARED_VALUES, max_size=3)
MAPS = st.dictionaries(st.text(max_size=4), SHARED_VALUES, max_size=3)


@given(st.lists(SHARED_VALUES, min_size=1, max_size=5), st.none() | LISTS, st.none() | MAPS)
@settings(max_examples=50)
def test_a_message_is_its_header_and_the_payload_behind_it(header: list[Any], args: list[Any] | None, kwargs: Any) -> None:
    for codec in CODECS.values():
        parts = [None if part is None else codec.encode(part) for part in (args, kwargs)]
        whole = header + ([] if args is None and kwargs is None else [args or []]) + ([] if kwargs is None else [kwargs])
        assert codec.value(codec.join(header, *parts)) == whole
        assert codec.join(header, *parts) == codec.encode(whole)


@pytest.mark.parametrize("undefined", hexes("d40000", "c7010000", "c800010000", "c9000000010000"))
def test_undefined_in_a_messagepack_payload_is_null_for_everybody(undefined: bytes) -> None:
    parts = b"\x92" + undefined + b"\xcb\x3f\xf0" + bytes(6), b"\x81\xa7comment" + undefined
    payload = Payload.of_arguments(MSGPACK, *parts, 32)
    for codec in CODECS.values():
        args, kwargs = payload.arguments(codec)
        assert args is not None and kwargs is not None
        assert (codec.value(args), codec.value(kwargs)) == ([None, 1.0], {"comment": None})
    assert payload.arguments(MSGPACK) == (b"\x92\xc0\xcb\x3f\xf0" + bytes(6), b"\x81\xa7comment\xc0")


@pytest.mark.parametrize(
    ("codec", "args"),
    [(JSON, b'[{"a":1,"a":2}]'), (MSGPACK, bytes.fromhex("9182a16101a16102")), (CBOR, bytes.fromhex("81a2616101616102"))],
)
def test_of_members_with_the_same_name_the_last_counts(codec: Codec, args: bytes) -> None:
    payload = Payload.of_arguments(codec, args, None, 32)
    assert payload.value == {"a": 2}
    for other in CODECS.values():
        part, _ = payload.arguments(other)
        assert part is not None
        assert other.value(part) == [{"a": 2}]


def test_only_plain_values_can_be_written() -> None:
    for codec in (JSON, MSGPACK):
        with pytest.raises(TypeError):
            codec.encode([deque()])


# --- keys of maps that could be chosen to collide ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "data"), NUMBERED)
def test_what_is_no_text_key_is_refused_before_it_is_hashed(name: str, data: bytes) -> None:
    """Colliding map keys: a decoder that went on would find the end of the data first, and say that."""
    codec = CODECS[name]
    with pytest.raises(Violation, match="the keys of a map must be text"):
        codec.value(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(), inner, max_size=40),
        max_leaves=60,
    )
)
@example({str(number): number for number in range(70_000)})
@example([b"\xde\xdf" * 200, "ߞ" * 300, dict.fromkeys(map(str, range(20)), -1.5)])
@example({"x" * 300: [[1] * 70_000, {"y" * 70_000: b"z" * 70_000}] * 2})
def test_maps_with_text_keys_pass_however_large(value: Any) -> None:
    assert MSGPACK.value(msgpack.packb(value)) == value
    assert CBOR.value(cbor2.dumps(value)) == value


@given(st.binary(max_size=60), st.integers(0, 60), st.binary(max_size=3))
def test_a_look_at_the_keys_says_no_only_to_what_no_decoder_should_take(data: bytes, place: int, other: bytes) -> None:
    """Whatever the bytes are: they are looked at to an end, and what is refused for its keys has some that are no text."""
    data = b"\xde\x00\x10" + data[:place] + other + data[place:]
    try:
        slices.check_keys(data)
    except slices.KeyIsNoText:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = msgspec.msgpack.decode(data)
            with pytest.raises(Violation):
                MSGPACK.value(data)
            assert any(type(key) is not str for key in keys_of(found))


def keys_of(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
