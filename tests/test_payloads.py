from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from nexus_tw.errors import NexusError
from nexus_tw.payloads import decode

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
