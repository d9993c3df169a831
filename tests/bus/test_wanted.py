"""What is wanted of a bus, while patterns come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.bus import wanted as module
from nexus_tw.bus.wanted import Wanted
from nexus_tw.model.names import parse_pattern

TEXTS = ["a", "a.b", "a.*", "a.**", "*", "**", "*.b"]
NAMES = ["a", "b", "a.b", "a.c", "a.b.c"]


@given(st.lists(st.tuples(st.sampled_from(TEXTS), st.sampled_from(NAMES)), max_size=60))
def test_an_event_type_is_wanted_while_a_pattern_matches_it(steps: list[tuple[str, str]]) -> None:
    """Whatever was asked and remembered before, the answer is that of the patterns there are now."""
    wanted, there = Wanted(), set[str]()
    for text, name in steps:
        pattern = parse_pattern(text, "test")
        if text in there:
            there.remove(text)
            wanted.drop(pattern)
        else:
            there.add(text)
            wanted.add(pattern)
        for asked in (name, *NAMES):
            assert wanted.wants(asked) == any(parse_pattern(one, "test").matches(asked) for one in there)


def test_what_is_remembered_is_bounded() -> None:
    """More event types than fit cost a new look, and no wrong answer."""
    wanted = Wanted()
    wanted.add(parse_pattern("a.**", "test"))
    for number in range(module.KEPT * 2 + 10):
        assert wanted.wants(f"a.x{number}")
        assert len(wanted._answers) <= module.KEPT
    assert not wanted.wants("b.x")
