"""The shape of metrics: flat, nested, and wrong."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.model.errors import NexusError
from nexus_tw.telemetry.shape import ALL_NAMES, flatten
from tests.telemetry.world import World


@pytest.mark.parametrize(
    "metrics",
    [
        b'{"a":1}',
        b' { "a" : 1.50e3 , "b" : "text" , "c" : false } ',
        b'{"a.b":1,"a":2}',
        b'{"max":18446744073709551615,"min":-9223372036854775808}',
        b'{"' + b"n" * 255 + b'":1}',
        b"{" + b",".join(b'"%d":1' % number for number in range(1024)) + b"}",
    ],
)
def test_flat_metrics_stay_the_bytes_that_were_sent(metrics: bytes) -> None:
    assert flatten(metrics, 32) is metrics


@pytest.mark.parametrize(
    ("metrics", "flat"),
    [
        (b'{"disk":{"used":1,"free":{"mb":2.5}},"cpu":true}', b'{"disk.used":1,"disk.free.mb":2.5,"cpu":true}'),
        (b'{"a":{"b.c":1},"a.b":{"d":"x"}}', b'{"a.b.c":1,"a.b.d":"x"}'),
        (b'{"a":{},"b":{"c":{}},"d":18446744073709551615}', b'{"d":18446744073709551615}'),
    ],
)
def test_nested_metrics_get_dotted_names(metrics: bytes, flat: bytes) -> None:
    assert flatten(metrics, 32) == flat


WRONG = [
    (b"", "metrics: is not JSON"),
    (b'{"a":1', "metrics: is not JSON"),
    (b'{"a":"\xff"}', "metrics: is not JSON"),
    (b'{"a":NaN}', "metrics: is not JSON"),
    (b'{"a":"\\ud800"}', "metrics: is not JSON"),
    (b"[]", "metrics: must be an object"),
    (b"null", "metrics: must be an object"),
    (b"{}", "metrics: must not be empty"),
    (b'{"a":{"b":{}}}', "metrics: must not be empty"),
    (b'{"a":{"b":null}}', "metrics.a.b: must be a number, a boolean, a string or an object of these"),
    (b'{"a":[1]}', "metrics.a: must be a number, a boolean, a string or an object of these"),
    (b'{"cpu":1e400}', "metrics: numbers must be finite and within 64 bits"),
    (b'{"cpu":18446744073709551616}', "metrics.cpu: numbers must be finite and within 64 bits"),
    (b'{"cpu":-9223372036854775809}', "metrics.cpu: numbers must be finite and within 64 bits"),
    (b'{"cpu":' + b"9" * 5000 + b"}", "metrics: numbers must be finite and within 64 bits"),
    (b'{"":1}', "metrics.: names must not be empty"),
    (b'{"a":{"":1}}', "metrics.a.: names must not be empty"),
    (b'{"a":{"b":1},"a.b":2}', "metrics.a.b: is there twice"),
    (b'{"a.b":{"c":1},"a":{"b":{"c":2}}}', "metrics.a.b.c: is there twice"),
    (
        b'{"a":{"' + b"n" * 254 + b'":1}}',
        "metrics.a." + "n" * 253 + ": names must not be longer than 255 characters",
    ),
    (b'{"' + b"n" * 256 + b'":1}', "metrics." + "n" * 255 + ": names must not be longer than 255 characters"),
    (b"{" + b",".join(b'"%d":1' % number for number in range(1025)) + b"}", "metrics: more than 1024 of them"),
    (b'{"a":{"a":{"a":{"a":1}}}}', "metrics.a.a.a: objects must not be nested more than 3 deep"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "metrics: nested too deep"),
]


@pytest.mark.parametrize(("metrics", "why"), WRONG, ids=range(len(WRONG)))
def test_metrics_of_the_wrong_shape_are_refused_by_the_name_of_the_metric(metrics: bytes, why: str) -> None:
    world = World(depth=3)
    world.submit(metrics=metrics)
    world.turn()
    assert world.said == [("fail", "a", "invalid_message", f"Invalid message format: {why}")]
    assert world.store.batches == []


def test_objects_may_be_nested_as_deep_as_the_limit_says() -> None:
    assert flatten(b'{"a":{"b":{"c":1}}}', 3) == b'{"a.b.c":1}'


LEAVES = st.one_of(
    st.booleans(),
    st.text(max_size=5),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
NESTED = st.recursive(LEAVES, lambda inner: st.dictionaries(st.text("ab.", min_size=1, max_size=3), inner), max_leaves=12)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), LEAVES, st.integers()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=3), inner)),
)


def naive(prefix: str, value: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, inner in value.items():
        pairs += naive(f"{prefix}{key}.", inner) if isinstance(inner, dict) else [(prefix + key, inner)]
    return pairs


def test_flattening_makes_no_more_of_a_sample_than_its_names_may_have() -> None:
    """A long outer name is repeated in each metric: 7 kB sent would be 256 kB stored."""
    outer = "o" * 240
    fits = {outer: {f"{number:03}": number for number in range(ALL_NAMES // 244)}}
    assert len(flatten(msgspec.json.encode(fits), 32)) > ALL_NAMES
    for many in (ALL_NAMES // 244 + 1, 1024):
        with pytest.raises(NexusError) as caught:
            flatten(msgspec.json.encode({outer: {f"{number:03}": number for number in range(many)}}), 32)
        why = f"names with more than {ALL_NAMES} characters in all, those of outer objects repeated"
        assert caught.value.message == f"Invalid message format: metrics: {why}"
    long = {f"{number:0200}": number for number in range(1000)}  # as long as it was sent, so as long as it may be stored
    assert flatten(msgspec.json.encode({**long, "a": {"b": 1}}), 32).endswith(b'"a.b":1}')


@pytest.mark.parametrize("metrics", [{f"{n}": n for n in range(1025)}, {"a": {f"{n}": n for n in range(60_000)}}])
def test_more_metrics_than_a_sample_may_have_are_refused_where_the_first_of_them_is(metrics: dict[str, Any]) -> None:
    with pytest.raises(NexusError, match="metrics: more than 1024 of them"):
        flatten(msgspec.json.encode(metrics), 32)


@given(st.dictionaries(st.text("ab.", min_size=1, max_size=3), NESTED))
def test_flattening_equals_the_naive_one(metrics: dict[str, Any]) -> None:
    pairs = naive("", metrics)
    names = [name for name, _ in pairs]
    sent = msgspec.json.encode(metrics)
    if not pairs or len(set(names)) < len(names):
        with pytest.raises(NexusError):
            flatten(sent, 32)
        return
    flat = json.loads(flatten(sent, 32))
    assert list(flat.items()) == pairs
    assert [type(value) for value in flat.values()] == [type(value) for _, value in pairs]


@given(st.one_of(JSON_VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40)))
@example(b'{"a":-0.0}')
def test_anything_is_either_stored_or_refused_with_a_reason(sent: bytes) -> None:
    world = World()
    world.submit(metrics=sent)
    world.turn()
    if world.store.batches:
        world.store.ends()
        [sample] = world.store.batches[0]
        flat = json.loads(sample.metrics)
        assert flat
        for value in flat.values():
            assert isinstance(value, bool | int | float | str)
            assert not isinstance(value, float) or math.isfinite(value)
        assert json.loads(world.events()[0])["metrics"] == json.loads(sent)
    else:
        [(kind, _, code, message)] = world.said
        assert (kind, code) == ("fail", "invalid_message")
        assert message.startswith("Invalid message format: metrics")
