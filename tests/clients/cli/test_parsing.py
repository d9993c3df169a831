"""What people type: JSON, NAME=VALUE, comparisons, durations."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_client.cli import parsing, toml
from nexus_client.cli.words import ago, clean


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("{\"a\": 1}",), {"a": 1}),
        (("[1, 2]",), [1, 2]),
        (("null",), None),
        (("7",), 7),
        (("a=1", "b=x", "c=true", "d=null", "e=1.50", 'f="1"', "g={\"h\": []}", "i="), {
            "a": 1, "b": "x", "c": True, "d": None, "e": 1.5, "f": "1", "g": {"h": []}, "i": ""}),
        (("disk.used=0.7", "v=007", "w=NaN", "x=a=b"), {"disk.used": 0.7, "v": "007", "w": "NaN", "x": "a=b"}),
    ],
)  # fmt: skip
def test_data_is_one_json_value_or_several_pairs(arguments: tuple[str, ...], meant: Any) -> None:
    assert parsing.data(arguments, "data") == meant


@pytest.mark.parametrize("arguments", [("a",), ("{",), ("a=1", "b"), ("a=1", "a=2"), ("NaN",), ("1", "2"), ("=1",)])
def test_data_that_is_neither_is_told_with_the_argument(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError, match=r"^data: "):
        parsing.data(arguments, "data")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ((), None),
        (("a=1",), {"a": 1}),
        (("cpu>=90", "cpu<100", "state!=idle"), {"cpu": {"gte": 90, "lt": 100}, "state": {"ne": "idle"}}),
        (("metrics.cpu>1", "n<=-2"), {"metrics.cpu": {"gt": 1}, "n": {"lte": -2}}),
        (('{"agentId": {"prefix": "eu-"}}', "b=x"), {"agentId": {"prefix": "eu-"}, "b": "x"}),
    ],
)
def test_where_is_a_filter(arguments: tuple[str, ...], meant: Any) -> None:
    assert parsing.where(arguments) == meant


@pytest.mark.parametrize("arguments", [("[1]",), ("a",), ("a=1", "a>2"), ("a>1", "a>2"), ("a>1", '{"a": 2}')])
def test_where_that_is_no_filter_is_told(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError, match=r"^--where"):
        parsing.where(arguments)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("30s", 30), ("15m", 900), ("2h", 7200), ("1w", 604_800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parsing.Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1y", "1e3", "99999999w", "inf"])
def test_what_is_no_duration_is_told(text: str) -> None:
    with pytest.raises(click.UsageError, match="no duration"):
        parsing.Seconds().convert(text, None, None)


def test_spans_of_time_in_words() -> None:
    assert [ago(each) for each in (0, 1, 61, 3_600, 90_061, -172_800)] == [
        *("0 seconds", "1 second", "1 minute 1 second", "1 hour", "1 day 1 hour", "2 days"),
    ]


@given(st.text())
def test_no_text_can_steer_a_terminal(text: str) -> None:
    shown = clean(text)
    assert not any((ord(each) < 32 and each not in "\t\n") or 127 <= ord(each) < 160 for each in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


KEYS = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = KEYS | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
TREES = st.recursive(
    st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=3), max_size=3),
    lambda below: st.dictionaries(KEYS, below | st.lists(below, min_size=1, max_size=2) | SCALARS, max_size=3),
    max_leaves=8,
)


@given(TREES)
def test_toml_that_is_written_is_read_as_the_same(tree: dict[str, Any]) -> None:
    import tomllib

    assert tomllib.loads("".join(f"{line.text}\n" for line in toml.lines(tree))) == json.loads(json.dumps(tree))
