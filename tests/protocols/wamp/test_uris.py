from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.names import Pattern
from nexus_tw.protocols.wamp.uris import is_loose, is_pattern, is_uri

NAMES = st.lists(st.text("abz09_", min_size=1, max_size=3), min_size=1, max_size=4).map(".".join)


@pytest.mark.parametrize(
    ("uri", "loose", "strict"),
    [
        ("com.example.topic_1", True, True),
        ("a", True, True),
        ("Com.Example", True, False),
        ("com.exämple", True, False),
        ("com.my-app", True, False),
        ("com.a/b", True, False),
        ("", False, False),
        (".a", False, False),
        ("a.", False, False),
        ("a..b", False, False),
        ("a b", False, False),
        ("a\u00a0b", False, False),
        ("a#b", False, False),
        ("a.*", False, False),
        ("a\0b", False, False),
        ("a\nb", False, False),
        ("a\n", False, False),
        ("a\ud800", False, False),
        ("a" * 255, True, True),
        ("a" * 256, False, False),
        ("ä" * 128, False, False),
    ],
)
def test_a_uri_is_components_joined_by_dots(uri: str, loose: bool, strict: bool) -> None:
    assert is_uri(uri, False) is is_pattern(uri, "exact", False) is loose
    assert is_uri(uri, True) is is_pattern(uri, "exact", True) is strict


@pytest.mark.parametrize(
    ("uri", "prefix", "wildcard"),
    [
        ("", True, True),
        ("a", True, True),
        ("a.b", True, True),
        ("a.", True, True),
        ("a..", False, True),
        (".a", False, True),
        ("a..b", False, True),
        ("..", False, True),
        ("a b", False, False),
        ("a#", False, False),
        ("a.*", False, False),
        ("a.\0", False, False),
        ("a.\ud800", False, False),
        ("a" * 300, False, False),
        ("." * 300, False, False),
        ("." * 60_000, False, False),
    ],
)
def test_in_a_pattern_components_may_be_empty(uri: str, prefix: bool, wildcard: bool) -> None:
    for strict in (False, True):
        assert is_pattern(uri, "prefix", strict) is prefix
        assert is_pattern(uri, "wildcard", strict) is wildcard


def test_strict_holds_for_patterns_too() -> None:
    for match in ("exact", "prefix", "wildcard"):
        assert is_pattern("A.b", match, False)
        assert not is_pattern("A.b", match, True)


def test_there_are_no_other_policies() -> None:
    assert not any(is_pattern("a", match, False) for match in ("", "regex", "Prefix"))


@given(NAMES, st.data())
def test_what_stands_for_a_uri_is_a_pattern(name: str, data: st.DataObject) -> None:
    prefix = name[: data.draw(st.integers(0, len(name)))]
    assert is_pattern(prefix, "prefix", True)
    assert Pattern.prefixed(prefix).matches(name)
    wildcard = ".".join(data.draw(st.sampled_from([part, ""])) for part in name.split("."))
    assert is_pattern(wildcard, "wildcard", True)
    assert Pattern.wildcard(wildcard).matches(name)


@pytest.mark.parametrize("uri", ["a", "com.*.error", "*", "com." + "x" * 10_000, "com.Ärger", "com.my-app/x"])
def test_errors_and_reasons_may_be_any_loose_uri(uri: str) -> None:
    assert is_loose(uri)


@pytest.mark.parametrize("uri", ["", ".", "a.", ".a", "a..b", "a b", "a#", "a\n", "a\x1b[2J", "a.b\0", "a\u00a0b"])
def test_what_is_no_uri_by_the_loose_rule_is_none_for_errors_either(uri: str) -> None:
    assert not is_loose(uri)
