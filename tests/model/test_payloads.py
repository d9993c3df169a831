from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from nexus_tw.model.errors import NexusError
from nexus_tw.model.payloads import Payload, Shape, decode
from nexus_tw.model.serializers import CBOR, CODECS, JSON, MSGPACK, Codec
from tests.model.samples import BINARY_VALUES, JSON_VALUES, SHARED_VALUES

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text()
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=12
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def refused(raw: bytes, depth: int = 32) -> str:
    with pytest.raises(NexusError) as caught:
        decode(raw, "data", depth)
    assert caught.value.code == "invalid_message"
    return caught.value.message


@given(VALUES, st.integers(1, 6))
@example({"text": "[[[{{{"}, 1)
@example([[[]]], 2)
@example([[[]]], 3)
def test_json_is_decoded_and_refused_just_past_the_depth(value: Any, depth: int) -> None:
    raw = json.dumps(value).encode()
    if depth_of(value) > depth:
        assert refused(raw, depth) == f"Invalid message format: data: nested deeper than {depth}"
    else:
        assert decode(raw, "data", depth) == value
        assert decode(Raw(raw), "data", depth) == value


@given(st.binary(max_size=30))
@example(b"")
@example(b"\xef\xbb\xbf1")
@example(b'"\xff"')
@example(b'"\\ud800"')
@example(b"NaN")
@example(b"1e400")
@example(b"1" * 5000)
@example(b"[1,]")
@example(b"1 2")
@example(b"[" * 100_000)
def test_any_bytes_are_json_or_refused_by_the_members_name(raw: bytes) -> None:
    try:
        decode(raw, "data", 32)
    except NexusError:
        assert refused(raw).startswith("Invalid message format: data: ")


def test_a_depth_bomb_is_refused_at_once() -> None:
    begun = time.perf_counter()
    assert "nested deeper than 32" in refused(b"[" * 30_000 + b"]" * 30_000)
    assert "nested deeper than 32" in refused(b'{"a":' * 10_000 + b"1" + b"}" * 10_000)
    assert "nested deeper than 32" in refused(b"[" * 500 + b"]" * 500)
    assert time.perf_counter() - begun < 1


# --- payloads -----------------------------------------------------------------------------------------------------------

EACH = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
DEPTH = 32
Given = tuple[list[Any] | None, dict[str, Any] | None]


def given_in(codec: Codec, args: Any, kwargs: Any, depth: int = DEPTH) -> Payload:
    encoded = [None if part is None else codec.encode(part) for part in (args, kwargs)]
    return Payload.of_arguments(codec, encoded[0], encoded[1], depth)


def told_in(codec: Codec, payload: Payload) -> Given:
    args, kwargs = payload.arguments(codec)
    return None if args is None else codec.value(args), None if kwargs is None else codec.value(kwargs)


def same(one: Given, other: Given) -> bool:
    """Return whether two payloads are the same for a client: it treats an empty part like an absent one."""
    return (one[0] or [], one[1] or {}) == (other[0] or [], other[1] or {})


@EACH
@pytest.mark.parametrize(
    ("args", "kwargs", "value", "shape"),
    [
        (None, None, {"args": [], "kwargs": {}}, "pair"),
        ([], None, {"args": [], "kwargs": {}}, "pair"),
        ([], {}, {"args": [], "kwargs": {}}, "pair"),
        ([], {"a": 1}, {"a": 1}, "natural"),
        (None, {"a": 1}, {"a": 1}, "natural"),
        ([1], None, 1, "natural"),
        ([None], {}, None, "natural"),
        ([[1, 2]], None, [1, 2], "natural"),
        ([[]], None, [], "natural"),
        (["text"], None, "text", "natural"),
        ([{"a": 1}], None, {"a": 1}, "value"),
        ([{}], {}, {}, "value"),
        ([1, 2], None, {"args": [1, 2], "kwargs": {}}, "pair"),
        ([1], {"a": 1}, {"args": [1], "kwargs": {"a": 1}}, "pair"),
        ([{}], {"a": 1}, {"args": [{}], "kwargs": {"a": 1}}, "pair"),
    ],
)
def test_arguments_are_one_value_and_its_shape_leads_back(
    codec: Codec, args: list[Any] | None, kwargs: dict[str, Any] | None, value: Any, shape: Shape
) -> None:
    payload = given_in(codec, args, kwargs)
    assert payload.value == json.loads(payload.data) == value
    assert payload.shape == shape
    over_the_bus = Payload.of_value(payload.data, payload.shape)
    assert over_the_bus.value == value
    for other in CODECS.values():
        assert same(told_in(other, payload), (args, kwargs))
        assert same(told_in(other, over_the_bus), (args, kwargs))


@EACH
@pytest.mark.parametrize(
    ("data", "shape", "args", "kwargs"),
    [
        (b'{"a":1}', "natural", [], {"a": 1}),
        (b" {} ", "natural", [], {}),
        (b"\n[1]", "natural", [[1]], None),
        (b"null", "natural", [None], None),
        (b'{"args":[1],"kwargs":{}}', "natural", [], {"args": [1], "kwargs": {}}),
        (b'{"a":1}', "value", [{"a": 1}], None),
        (b'{"args":[],"kwargs":{}}', "pair", None, None),
        (b' { "kwargs" : { } , "args" : [ ] } ', "pair", None, None),
        (b'{"args":[1,2],"kwargs":{}}', "pair", [1, 2], None),
        (b'{"args":[],"kwargs":{"a":1}}', "pair", [], {"a": 1}),
        (b'{"args":[1],"kwargs":{"a":1}}', "pair", [1], {"a": 1}),
    ],
)
def test_a_value_is_arguments_by_its_shape(
    codec: Codec, data: bytes, shape: Shape, args: list[Any] | None, kwargs: dict[str, Any] | None
) -> None:
    payload = Payload.of_value(data, shape)
    assert told_in(codec, payload) == (args, kwargs)
    assert payload.data == data
    assert payload.shape == shape
    assert payload.value == json.loads(data)


@pytest.mark.parametrize("data", [b"1", b"[]", b"{}", b'{"args":[]}', b'{"args":{},"kwargs":{}}', b'{"args":[],"kwargs":null}'])
def test_a_pair_is_one(data: bytes) -> None:
    with pytest.raises(NexusError) as caught:
        Payload.of_value(data, "pair")
    assert caught.value.code == "invalid_message"


@given(
    st.sampled_from(list(CODECS)),
    st.lists(SHARED_VALUES, max_size=3),
    st.dictionaries(st.text(max_size=4), SHARED_VALUES, max_size=3),
)
def test_arguments_arrive_as_they_were_given_in_any_format(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    payload = given_in(CODECS[name], args, kwargs)
    over_the_bus = Payload.of_value(payload.data, payload.shape)
    for codec in CODECS.values():
        assert told_in(codec, payload) == (args, kwargs)
        assert same(told_in(codec, over_the_bus), (args, kwargs))


@given(JSON_VALUES)
def test_what_a_json_client_says_arrives_as_it_was_given(value: Any) -> None:
    payload = Payload.of_value(json.dumps(value).encode())
    for codec in CODECS.values():
        assert told_in(codec, payload) == (([], value) if isinstance(value, dict) else ([value], None))
        again = Payload.of_arguments(codec, *payload.arguments(codec), 33)
        # Of an empty object nothing is left among arguments.
        assert again.value == (value if value != {} else {"args": [], "kwargs": {}})


@given(BINARY_VALUES)
def test_dates_are_text_for_json_and_dates_for_the_others(value: Any) -> None:
    payload = given_in(MSGPACK, [value], None)
    assert told_in(CBOR, payload) == ([value], None)
    assert json.loads(payload.data) == payload.value


def test_bytes_are_what_wamp_writes_for_them_in_json() -> None:
    payload = given_in(CBOR, [], {"image": b"\x00\xff"})
    assert payload.data == b'{"image":"\\u0000AP8="}'
    assert told_in(MSGPACK, Payload.of_value(payload.data)) == ([], {"image": b"\x00\xff"})


@pytest.mark.parametrize(
    ("codec", "args", "kwargs"),
    [
        (JSON, b"[ 1,  2.50 ]", b'{ "b": 1, "a" : 1e2, "a":3}'),
        (JSON, b"[]", b"{}"),
        (MSGPACK, bytes.fromhex("dd0000000101"), bytes.fromhex("de0001a16101")),
        (CBOR, bytes.fromhex("9f01f93c00ff"), bytes.fromhex("bf616101ff")),
    ],
)
def test_who_speaks_the_same_gets_the_very_bytes(codec: Codec, args: bytes, kwargs: bytes) -> None:
    payload = Payload.of_arguments(codec, Raw(args), Raw(kwargs), DEPTH)
    assert payload.arguments(codec) == (args, kwargs)


def test_json_is_put_together_from_the_very_bytes() -> None:
    assert Payload.of_arguments(JSON, b"[]", b'{"b":1, "a":2}', DEPTH).data == b'{"b":1, "a":2}'
    assert Payload.of_arguments(JSON, b" [ 2.50 ] ", None, DEPTH).data == b"2.50"
    assert Payload.of_arguments(JSON, b"[1, 2]", None, DEPTH).data == b'{"args":[1, 2],"kwargs":{}}'
    assert Payload.of_value(b'{"b":1, "a":2}', "value").arguments(JSON) == (b'[{"b":1, "a":2}]', None)


def test_each_form_is_made_once() -> None:
    payload = given_in(JSON, [1, "two"], {"a": 3})
    assert payload.data is payload.data
    assert payload.value is payload.value
    for codec in CODECS.values():
        assert payload.arguments(codec) is payload.arguments(codec)


@EACH
@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        ({}, None, "args: must be a list"),
        (None, [], "kwargs: must be a map"),
        ("text", None, "args: must be a list"),
        ([[[[1]]]], None, "args: nested deeper than 3"),
        ([[[1]]], {"a": [[[]]]}, "kwargs: nested deeper than 3"),
    ],
)
def test_arguments_of_no_use_are_refused_by_name(codec: Codec, args: Any, kwargs: Any, why: str) -> None:
    with pytest.raises(NexusError) as caught:
        given_in(codec, args, kwargs, 3)
    assert caught.value.code == "invalid_message"
    assert caught.value.message == f"Invalid message format: {why}"


@pytest.mark.parametrize(
    ("codec", "part"),
    [
        (JSON, b"["),
        (JSON, b'["\xff"]'),
        (JSON, b"[1e999]"),
        (MSGPACK, b"\x91"),
        (MSGPACK, b"\x91\xa1\xff"),
        (MSGPACK, b"\x91\xd4\x05x"),  # an extension type
        (MSGPACK, b"\x91\x81\x01\x02"),  # a number as a key
        (CBOR, b"\x81"),
        (CBOR, b"\x81\xe0"),  # a simple value
        (CBOR, b"\x81\xd8\x1d\x00"),  # a reference
        (CBOR, b"\x81\xa1\x01\x02"),
    ],
)
def test_what_some_could_not_be_told_is_refused_for_all(codec: Codec, part: bytes) -> None:
    with pytest.raises(NexusError) as caught:
        Payload.of_arguments(codec, part, None, DEPTH)
    assert caught.value.code == "invalid_message"
    assert caught.value.message.startswith("Invalid message format: args: ")


@pytest.mark.parametrize("codec", [MSGPACK, CBOR], ids=lambda codec: codec.name)
def test_what_came_from_the_server_itself_and_cannot_be_said_in_a_format_is_an_error_of_its_own(codec: Codec) -> None:
    """A handler's result is not looked at before: it may be nested deeper than any serializer is asked for."""
    payload = Payload.of_value(b"[" * 300 + b"]" * 300)
    with pytest.raises(NexusError, match="payload: nested deeper than 256") as caught:
        payload.arguments(codec)
    assert caught.value.code == "invalid_message"
    assert payload.arguments(JSON)[0] is not None


def test_json_is_decoded_once_and_its_value_may_be_dropped() -> None:
    payload = Payload.of_json(b' {"a": [1]} ', "data", DEPTH)
    assert (payload.shape, payload.data, payload.decoded) == ("natural", b' {"a": [1]} ', 12)
    value = payload.value
    assert value == {"a": [1]} and payload.value is value
    payload.forget()
    assert payload.decoded == 0
    assert payload.value == value and payload.value is not value
    with pytest.raises(NexusError, match=f"data: nested deeper than {DEPTH}"):
        Payload.of_json(b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), "data", DEPTH)


@pytest.mark.parametrize("codec", [JSON, MSGPACK, CBOR], ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("args", "kwargs"), [([], None), ([1], None), ([{"a": 1}], {}), ([], {"a": 1.5}), ([1, "\xe9"], None), ([1], {"a": None})]
)
def test_what_is_published_is_what_another_node_would_make_of_its_json(codec: Codec, args: Any, kwargs: Any) -> None:
    came = Payload.of_arguments(codec, codec.encode(args), None if kwargs is None else codec.encode(kwargs), DEPTH)
    published, elsewhere = came.published(), Payload.of_value(came.data, came.shape)
    assert (published.shape, published.data, published.value) == (elsewhere.shape, elsewhere.data, elsewhere.value)
    for other in (JSON, MSGPACK, CBOR):
        assert published.arguments(other) == elsewhere.arguments(other)


def test_a_json_value_is_published_as_it_is() -> None:
    payload = Payload.of_json(b"1", "data", DEPTH)
    assert payload.published() is payload
