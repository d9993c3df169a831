"""The bounds of an event type's history."""

from __future__ import annotations

from itertools import permutations

from nexus_tw.bus.bounds import Bound, Bounds
from nexus_tw.model.settings import History, Kept


def test_the_most_specific_pattern_decides_in_whatever_order_they_are_written() -> None:
    expected = {
        "a.b": 1,
        "a.b.c": 2,
        "a.x": 3,
        "a.b.x": 4,
        "a.b.x.y": 4,
        "a.x.c": 5,
        "a.x.y": 6,
        "z.b": 7,
        "z.b.c": 8,
        "z": 9,
    }
    patterns = {"a.b": 1, "a.b.c": 2, "a.*": 3, "a.b.**": 4, "a.*.c": 5, "a.**": 6, "*.b": 7, "*.**": 8, "**": 9}
    for order in list(permutations(patterns))[::9999]:
        bounds = Bounds(History(patterns={text: Kept(count=patterns[text]) for text in order}))
        for event_type, count in expected.items():
            assert bounds.of(event_type) == Bound(count, 300, 1048576), event_type


def test_what_a_pattern_leaves_out_is_that_of_all_and_not_of_another_pattern() -> None:
    patterns = {"a.**": Kept(age=1), "a.b.**": Kept(bytes=5), "a.b.c": Kept(count=6)}
    bounds = Bounds(History(count=7, age=8, bytes=9, patterns=patterns))
    assert bounds.of("x") == Bound(7, 8, 9)
    assert bounds.of("a.x") == Bound(7, 1, 9)
    assert bounds.of("a.b.x") == Bound(7, 8, 5)
    assert bounds.of("a.b.c") == Bound(6, 8, 9)


def test_a_count_of_0_turns_it_off_for_all_or_for_some() -> None:
    assert Bounds(History(count=0)).of("a") is None
    assert not Bounds(History(count=0)).any
    some = Bounds(History(count=0, patterns={"a.*": Kept(count=2)}))
    assert some.any
    assert (some.of("a"), some.of("a.b")) == (None, Bound(2, 300, 1048576))
    most = Bounds(History(patterns={"a.*": Kept(count=0)}))
    assert most.any
    assert (most.of("a.b"), most.of("a")) == (None, Bound(1000, 300, 1048576))
