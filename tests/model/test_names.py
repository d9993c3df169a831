from __future__ import annotations

import time
import unicodedata
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.model import names
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern, check_name, is_name, is_reserved, parse_pattern
from tests.model.patterns import ANY_PATTERNS, NAMES, PATTERNS, PREFIXES, WIDE_NAMES, WILDCARDS, matches


def all_names(components: int, letters: str = "abcd") -> list[str]:
    """Return every name of up to so many components; `d` occurs in no pattern here."""
    names = level = list(letters)
    for _ in range(components - 1):
        level = [f"{name}.{letter}" for name in level for letter in letters]
        names = names + level
    return names


SMALL_WORLD = all_names(5)


def naive_is_name(text: str) -> bool:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return size <= 255 and all(
        component and not any(c in "#*" or c.isspace() or unicodedata.category(c) == "Cc" for c in component)
        for component in text.split(".")
    )


# --- grammar


@given(st.text(alphabet=st.characters(codec=None) | st.sampled_from("..a#* \t\x7f\x85\u2028\ud800"), max_size=12))
@example("a" * 255)
@example("a" * 256)
@example("ä" * 127 + "a")
@example("ä" * 128)
@example("a.b")
@example("a.b\n")
@example("")
def test_a_name_is_what_the_contract_calls_one(text: str) -> None:
    assert is_name(text) == naive_is_name(text)
    assert is_name(text) == naive_is_name(text), "remembered as it was"


@given(st.lists(st.sampled_from(["a", "*", "**", "", "a*", "b c", "#", "é"]), min_size=1, max_size=4).map(".".join))
@example("a" * 253 + ".*")
@example("a" * 254 + ".*")
def test_a_pattern_has_stars_as_whole_components_and_two_only_at_the_end(text: str) -> None:
    *parts, last = text.split(".")
    well_formed = (
        len(text.encode()) <= 255
        and all(part == "*" or naive_is_name(part) for part in parts)
        and (last in ("*", "**") or naive_is_name(last))
    )
    if well_formed:
        assert parse_pattern(text, "events[0]").text == text
    else:
        with pytest.raises(NexusError, match=r"^Invalid message format: events\[0\]: ") as caught:
            parse_pattern(text, "events[0]")
        assert caught.value.code == "invalid_message"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must not be empty"),
        ("a..b", "components are joined by single dots and hold no '#', '*', white space or control character"),
        ("a" * 256, "longer than 255 bytes, or not Unicode text"),
        ("\ud800", "longer than 255 bytes, or not Unicode text"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(NexusError) as caught:
        check_name(text, "eventType")
    assert caught.value.message == f"Invalid message format: eventType: {why}"
    with pytest.raises(NexusError) as caught:
        parse_pattern(text, "eventType")
    assert caught.value.message == f"Invalid message format: eventType: {why}"


def test_a_bad_star_is_told_where_stars_may_stand() -> None:
    with pytest.raises(NexusError, match=r"events: '\*' stands for a whole component and '\*\*' only at the end"):
        parse_pattern("a.**.b", "events")


def test_a_good_name_is_given_back() -> None:
    assert check_name("task.updated", "eventType") == "task.updated"


@pytest.mark.parametrize(
    ("name", "reserved"),
    [("nexus.a", True), ("wamp.a", True), ("nexus", False), ("wamp", False), ("nexusx.a", False), ("a.nexus.b", False)],
)
def test_names_below_nexus_and_wamp_are_reserved(name: str, reserved: bool) -> None:
    assert is_reserved(name) is reserved


# --- matching


@pytest.mark.parametrize(
    ("pattern", "name", "matched"),
    [
        ("task.updated", "task.updated", True),
        ("task.updated", "task.updated.x", False),
        ("task.*", "task.updated", True),
        ("task.*", "task", False),
        ("task.*", "task.a.b", False),
        ("*.updated", "task.updated", True),
        ("a.*.c", "a.b.c", True),
        ("task.**", "task", False),
        ("task.**", "task.a", True),
        ("task.**", "task.a.b.c", True),
        ("*.**", "a", False),
        ("*.**", "a.b", True),
        ("**", "a", True),
        ("**", "a.b.c", True),
        ("*", "a", True),
        ("*", "a.b", False),
    ],
)
def test_stars_stand_for_what_the_contract_says(pattern: str, name: str, matched: bool) -> None:
    assert parse_pattern(pattern, "events").matches(name) is matched


@given(PATTERNS, NAMES)
def test_a_pattern_matches_what_a_naive_reading_of_the_contract_does(pattern: Pattern, name: str) -> None:
    assert pattern.matches(name) == matches(pattern, name)
    assert pattern.exact == ("*" not in pattern.text)


@given(PATTERNS, PATTERNS)
@example(Pattern.parse("a.*.**"), Pattern.parse("a.**"))
@example(Pattern.parse("*.**"), Pattern.parse("**"))
@example(Pattern.parse("**"), Pattern.parse("*"))
@example(Pattern.parse("*"), Pattern.parse("**"))
def test_covering_means_that_every_name_of_the_one_is_a_name_of_the_other(one: Pattern, other: Pattern) -> None:
    # Patterns have at most five components and three letters, so five components of four letters hold every witness.
    assert one.covers(other) == all(matches(one, name) for name in SMALL_WORLD if matches(other, name))


@given(PATTERNS, PATTERNS)
def test_patterns_are_equal_when_written_alike(one: Pattern, other: Pattern) -> None:
    assert (one == other) == (one.text == other.text)
    assert one == Pattern.parse(one.text) and hash(one) == hash(Pattern.parse(one.text))
    assert one != one.text
    assert repr(one) == f"Pattern({one.text!r})"


# --- what WAMP adds: prefixes of characters, wildcards without a star

def begins(prefix: str, name: str) -> bool:
    """An empty component is nobody's, so a prefix that holds one before its end begins no name."""
    return name.startswith(prefix)


def alike(uri: str, name: str) -> bool:
    return len(uri.split(".")) == len(name.split(".")) and all(
        mine in ("", theirs) for mine, theirs in zip(uri.split("."), name.split("."), strict=True)
    )


@given(PREFIXES.filter(lambda prefix: "" not in prefix.split(".")[:-1]), WIDE_NAMES)
def test_a_wamp_prefix_counts_characters(prefix: str, name: str) -> None:
    pattern = Pattern.prefixed(prefix)
    assert pattern.matches(name) == begins(prefix, name)
    assert not pattern.exact


@given(WILDCARDS, WIDE_NAMES)
def test_an_empty_component_of_a_wamp_wildcard_is_any_one(uri: str, name: str) -> None:
    pattern = Pattern.wildcard(uri)
    assert pattern.matches(name) == alike(uri, name)
    assert not pattern.exact


def test_what_both_protocols_can_say_is_the_same_pattern() -> None:
    assert Pattern.prefixed("task.") == Pattern.parse("task.**")
    assert Pattern.prefixed("") == Pattern.parse("**")
    assert Pattern.wildcard("a..c") == Pattern.parse("a.*.c")
    assert Pattern.wildcard("a.b") != Pattern.parse("a.b")


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        (Pattern.parse("**"), "task.updated", True),
        (Pattern.parse("**"), "wamp.session.on_join", False),
        (Pattern.parse("*.session.*"), "wamp.session.on_join", False),
        (Pattern.parse("wamp.**"), "wamp.session.on_join", True),
        (Pattern.prefixed("wamp"), "wamp.session.on_join", True),
        (Pattern.prefixed("wa"), "wamp.session.on_join", False),
        (Pattern.wildcard("nexus."), "nexus.continuity", True),
        (Pattern.wildcard("."), "nexus.continuity", False),
    ],
)
def test_what_is_reserved_comes_to_those_who_name_it(pattern: Pattern, name: str, meant: bool) -> None:
    assert pattern.matches(name)
    assert pattern.selects(name) is meant


WIDE_PARTS = ["a", "b", "ab", "ba", "abb", "abbc", "c"]
WIDE_WORLD = [".".join(parts) for size in range(1, 5) for parts in product(WIDE_PARTS, repeat=size)]


@given(ANY_PATTERNS, ANY_PATTERNS)
def test_covering_holds_for_prefixes_too(one: Pattern, other: Pattern) -> None:
    assert one.covers(other) == all(one.matches(name) for name in WIDE_WORLD if other.matches(name))


# --- hostile clients


def test_no_text_makes_the_grammar_slow() -> None:
    begun = time.perf_counter()
    for text in (
        *("a" * n + "*" for n in range(200, 255)),
        *("a." * n + "." for n in range(100, 127)),
        *("*." * n + "a*" for n in range(100, 126)),
        *(".".join(["**"] * n) for n in range(60, 85)),
        "a" * 1_000_000,
        "*." * 500_000,
    ):
        assert not is_name(text)
        with pytest.raises(NexusError):
            parse_pattern(text, "events")
    assert time.perf_counter() - begun < 1


def test_texts_too_long_to_be_names_are_not_remembered() -> None:
    before = names._is_name.cache_info().currsize, names._parse.cache_info().currsize
    for number in range(10):
        text = f"{number}" * 65536
        assert not is_name(text)
        with pytest.raises(NexusError):
            parse_pattern(text, "events")
    assert (names._is_name.cache_info().currsize, names._parse.cache_info().currsize) == before
