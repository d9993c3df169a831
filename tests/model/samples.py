"""Hypothesis strategies for values and for messages of clients."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from hypothesis import strategies as st

TEXT = st.text(max_size=12)
KEYS = st.text(max_size=4)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
DATES = st.datetimes(timezones=st.just(UTC))

# A text that begins with NUL may be bytes in disguise.
PLAIN_TEXT = TEXT.filter(lambda text: not text.startswith("\0"))


def values_of(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=10
    )


JSON_VALUES = values_of(st.none() | st.booleans() | NUMBERS | PLAIN_TEXT)
SHARED_VALUES = values_of(st.none() | st.booleans() | NUMBERS | PLAIN_TEXT | st.binary(max_size=12))
BINARY_VALUES = values_of(st.none() | st.booleans() | NUMBERS | TEXT | st.binary(max_size=12) | DATES)

# One of each message, with everything that it can have.
MESSAGES: list[list[Any]] = [
    [1, "realm1", {"roles": {"caller": {"features": {"call_canceling": True}}}, "authid": "joe"}],
    [3, {"message": "no"}, "wamp.error.not_authorized", [1], {"a": 2}],
    [5, "signature", {"nonce": "x"}],
    [6, {}, "wamp.close.normal"],
    [8, 68, 7, {}, "com.example.error", ["text"], {"a": 2}],
    [16, 1, {"acknowledge": True, "exclude": [3, 4], "eligible_authid": ["a"]}, "com.topic", [1], {"a": [1.5]}],
    [32, 2, {"match": "prefix"}, "com."],
    [34, 3, 2**53],
    [48, 4, {"timeout": 30000, "receive_progress": True}, "com.procedure", [], {"a": None}],
    [49, 4, {"mode": "kill"}],
    [64, 5, {"invoke": "roundrobin", "_agent": "a1"}, "com.procedure"],
    [66, 6, 7],
    [70, 8, {"progress": True}, [b"bytes"]],
    [337, 9],
]
