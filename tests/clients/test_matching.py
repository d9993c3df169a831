"""Patterns and filters: the client's and the server's answers are those of `matching.json`, and equal everywhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_client.core.matching import Filter, check_name, parse_pattern

from nexus_tw.model import filters, names
from nexus_tw.model.errors import NexusError

CASES = json.loads((Path(__file__).parents[2] / "clients" / "transcripts" / "matching.json").read_text())


def server_selects(pattern: str, name: str) -> bool:
    parsed = names.parse_pattern(pattern, "events")
    return parsed.matches(name) and parsed.selects(name)


def server_matches(where: dict[str, Any], data: Any) -> bool:
    compiled = filters.compile_filter(where, 0, 0)
    return compiled is None or compiled.matches(filters.Facts(data))


@pytest.mark.parametrize("case", CASES["patterns"], ids=lambda case: f"{case['pattern']} {case['name']}")
def test_patterns(case: dict[str, Any]) -> None:
    assert parse_pattern(case["pattern"]).selects(case["name"]) is case["selects"]
    assert server_selects(case["pattern"], case["name"]) is case["selects"]


@pytest.mark.parametrize("case", CASES["overlaps"], ids=lambda case: " ".join(case["patterns"]))
def test_overlaps(case: dict[str, Any]) -> None:
    one, other = map(parse_pattern, case["patterns"])
    assert one.overlaps(other) is case["overlaps"]
    assert other.overlaps(one) is case["overlaps"]


@pytest.mark.parametrize("text", CASES["badPatterns"])
def test_bad_patterns(text: str) -> None:
    with pytest.raises(ValueError, match="no pattern"):
        parse_pattern(text)
    with pytest.raises(ValueError, match="type"):
        check_name(text, "type")
    with pytest.raises(NexusError):
        names.parse_pattern(text, "events")


@pytest.mark.parametrize("case", CASES["filters"], ids=json.dumps)
def test_filters(case: dict[str, Any]) -> None:
    assert Filter(case["where"]).matches(case["data"]) is case["matches"]
    assert server_matches(case["where"], case["data"]) is case["matches"]


@pytest.mark.parametrize("where", CASES["badFilters"], ids=json.dumps)
def test_bad_filters(where: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"where\.a\.\w+: expected"):
        Filter(where)
    with pytest.raises(NexusError):
        filters.compile_filter(where, 0, 0)


WORDS = st.sampled_from(["a", "b", "nexus", "wamp", "*"])
PATTERNS = st.builds(
    lambda words, tail: ".".join([*words, *tail]) or "**", st.lists(WORDS, max_size=3), st.sampled_from([[], ["**"]])
)
NAMES = st.lists(st.sampled_from(["a", "b", "nexus", "wamp"]), min_size=1, max_size=4).map(".".join)


@given(PATTERNS, NAMES)
def test_patterns_select_what_the_servers_select(pattern: str, name: str) -> None:
    assert parse_pattern(pattern).selects(name) is server_selects(pattern, name)


@given(PATTERNS, PATTERNS, NAMES)
def test_patterns_that_select_the_same_name_overlap(one: str, other: str, name: str) -> None:
    a, b = parse_pattern(one), parse_pattern(other)
    if a.selects(name) and b.selects(name):
        assert a.overlaps(b)


KEYS = st.sampled_from(["a", "b", "a.b", "gt", "in", "exists", "ne", "prefix", "lte"])
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5, "", "a", "ab", "1"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=5
)


@given(st.dictionaries(KEYS, VALUES, max_size=2), VALUES)
def test_filters_match_what_the_servers_match(where: dict[str, Any], data: Any) -> None:
    try:
        expected = server_matches(where, data)
    except NexusError:
        with pytest.raises(ValueError, match="where"):
            Filter(where)
    else:
        assert Filter(where).matches(data) is expected
