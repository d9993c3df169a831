"""The values that apply to a name, while patterns are added and removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nexus_tw.model import pattern_index as module
from nexus_tw.model.names import Pattern, is_name, is_reserved, parse_pattern
from nexus_tw.model.pattern_index import PatternIndex, best, selecting, some
from tests.model.patterns import ANY_PATTERNS, PATTERNS

NO_NAMES = ("", "a b", "a..b", "*")
ASKED = ("a", "b", "ab", "a.b", "a.abb", "b.b", "a.b.c", "a.b.ab.a", "wamp.a", "wamp.session.a", "nexus.b", *NO_NAMES)
RESERVED = [
    Pattern.parse("wamp.**"),
    Pattern.parse("wamp.a"),
    Pattern.parse("*.a"),
    Pattern.prefixed("wa"),
    Pattern.prefixed("wamp"),
    Pattern.wildcard("nexus."),
    Pattern.wildcard("."),
]


class Value:
    """Something with a pattern."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern

    def __repr__(self) -> str:
        return f"Value({self.pattern.text!r})"


def text(value: Value) -> str:
    return value.pattern.text


class IndexAgainstModel(RuleBasedStateMachine):
    """The model is a dictionary of all values, whose patterns are all matched one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[Pattern, Value] = {}
        self.selecting: PatternIndex[Value] = PatternIndex(selecting)
        self.best: PatternIndex[Value] = PatternIndex(best)
        self.some: PatternIndex[Value] = PatternIndex(some)
        self.all = (self.selecting, self.best, self.some)

    @rule(pattern=PATTERNS | ANY_PATTERNS | st.sampled_from(RESERVED))
    def comes(self, pattern: Pattern) -> None:
        if pattern not in self.held:
            value = self.held[pattern] = Value(pattern)
            for index in self.all:
                index.put(pattern, value)

    @rule(data=st.data())
    def goes(self, data: st.DataObject) -> None:
        if self.held:
            pattern = data.draw(st.sampled_from(list(self.held)))
            del self.held[pattern]
            for index in self.all:
                index.drop(pattern)

    @invariant()
    def what_is_held_is_found(self) -> None:
        for index in self.all:
            assert sorted(map(text, index)) == sorted(pattern.text for pattern in self.held)
            for pattern in RESERVED:
                assert index.get(pattern) is self.held.get(pattern)

    @invariant()
    def what_answers_is_what_the_rule_says(self) -> None:
        for name in ASKED:
            own = self.held.get(Pattern.parse(name)) if is_name(name) else None
            wild = [value for pattern, value in self.held.items() if not pattern.exact and pattern.matches(name)]
            if not is_name(name):
                wild = []  # of what is no name nobody has a pattern in mind
            for index in self.all:
                assert index.first(name) is next(iter(index.find(name)), None)
                assert index.any(name) == bool(index.find(name))
                found = list(index.find(name))
                assert own is None or found.pop(0) is own
                assert set(found) <= set(wild)
                if is_name(name):
                    assert sorted(map(text, index.matching(name))) == sorted(map(text, [*filter(None, [own]), *wild]))
            self.selects(name, wild)
            self.is_best(name, [value for value in self.best.find(name) if value is not own], wild)
            assert self.some.any(name) == (own is not None or bool(wild))

    def selects(self, name: str, wild: list[Value]) -> None:
        first = name.partition(".")[0]
        meant = [value for value in wild if not is_reserved(name) or value.pattern.text.removeprefix(".").startswith((first,))]
        found = [value for value in self.selecting.find(name) if not value.pattern.exact]
        assert sorted(map(text, found)) == sorted(map(text, meant))
        sizes = [len(value.pattern.parts) for value in found]
        assert sizes == sorted(sizes), "shortest prefix first"

    def is_best(self, name: str, found: list[Value], wild: list[Value]) -> None:
        if is_reserved(name) or not wild:
            assert found == []
            return
        (value,) = found
        prefixes = [len(one.pattern.text) for one in wild if one.pattern.tail is not None]
        if prefixes:
            assert value.pattern.tail is not None and len(value.pattern.text) == max(prefixes)
            return
        # Component by component from the left: it says one wherever a rival does, up to where it alone says one.
        given = [[part != "*" for part in one.pattern.parts] for one in wild]
        assert [part != "*" for part in value.pattern.parts] == max(given)


IndexAgainstModel.TestCase.settings = settings(IndexAgainstModel.TestCase.settings, stateful_step_count=30)
TestIndexAgainstModel = IndexAgainstModel.TestCase


def index_of(rule: Callable[[str, Iterator[Any]], tuple[Any, ...]], *texts: str, room: int = 1 << 20) -> PatternIndex[Value]:
    index: PatternIndex[Value] = PatternIndex(rule, room)
    for each in texts:
        pattern = parse_pattern(each, "test")
        index.put(pattern, Value(pattern))
    return index


@pytest.mark.parametrize("rule", [selecting, best, some])
def test_what_is_kept_is_bounded_and_more_names_than_fit_cost_a_new_look_and_no_wrong_answer(
    rule: Callable[[str, Iterator[Any]], tuple[Any, ...]],
) -> None:
    index = index_of(rule, "a.**", room=4 << 20)
    for number in range(module.KEPT * 2 + 10):
        assert index.any(f"a.x{number}") and not index.any(f"b.x{number}")
        assert len(index._kept) <= module.KEPT
    assert index.any("a.x0") and not index.any("b.x0")


def test_what_is_kept_is_bounded_in_bytes_however_many_patterns_a_name_has() -> None:
    parts = [["*" if number >> bit & 1 else "a" for bit in range(8)] for number in range(256)]
    index = index_of(selecting, *(".".join([*each, "**"]) for each in parts), room=50_000)
    for number in range(100):
        assert len(index.find(f"{'a.' * 8}{number}")) == 256
        assert len(index._kept) * 256 * 8 <= 50_000


def test_what_was_found_is_kept_until_a_pattern_comes_or_goes_but_not_for_a_name_that_does() -> None:
    looks: list[str] = []

    def counting(name: str, found: Iterator[Value]) -> tuple[Value, ...]:
        looks.append(name)
        return selecting(name, found)

    index = index_of(counting, "a.*")
    for _ in range(2):
        assert index.any("a.b") and not index.any("b")
    assert looks == ["a.b", "b"]
    own = Pattern.parse("a.b")
    index.put(own, Value(own))
    assert [text(value) for value in index.find("a.b")] == ["a.b", "a.*"]
    index.drop(own)
    assert index.any("a.b") and not index.any("b")
    assert looks == ["a.b", "b"], "a fleet that comes and goes does not cost the answers for all others"
    index.drop(Pattern.parse("a.*"))
    assert not index.any("a.b") and not index._kept


def test_where_there_are_names_only_nothing_is_looked_for() -> None:
    index = index_of(lambda _name, _found: pytest.fail("looked for"), "a", "b.c")
    assert index.any("a") and not index.any("x") and index.first("x") is None and index.find("x") == ()
    assert [text(value) for value in index.find("b.c")] == ["b.c"]
    assert not index._kept


def test_what_is_no_name_has_no_answer_and_is_not_kept() -> None:
    index = index_of(some, "**")
    for asked in ("x" * 60_000, *NO_NAMES):
        assert not index.any(asked) and index.first(asked) is None and index.find(asked) == ()
    assert not index._kept


def test_a_name_and_a_wildcard_for_that_name_alone_are_two() -> None:
    index = index_of(selecting, "a.b")
    same = Pattern.wildcard("a.b")
    index.put(same, Value(same))
    assert [text(value) for value in index.find("a.b")] == ["a.b", ".a.b"]
    index.drop(Pattern.parse("a.b"))
    assert [text(value) for value in index.find("a.b")] == [".a.b"]


@pytest.mark.parametrize(
    ("name", "answers"),
    [("a.b.c", "a.b**"), ("a.x.c", "a.**"), ("x.b.c", "*.b.*"), ("x.x.c", "*.*.c"), ("x.x.x", "*.*.*"), ("x", None)],
)
def test_the_longest_prefix_is_best_else_the_wildcard_that_says_more_on_the_left(name: str, answers: str | None) -> None:
    index = index_of(best, "a.**", "*.b.*", "*.*.c", "*.*.*")
    prefix = Pattern.prefixed("a.b")
    index.put(prefix, Value(prefix))
    found = index.first(name)
    assert (None if found is None else text(found)) == answers
