from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.ids import LARGEST, number_of
from nexus_tw.model.names import Pattern


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_an_id_is_one_of_wamps_and_depends_on_the_pattern_only(text: str) -> None:
    number = number_of(Pattern(text, None, True))
    assert 1 <= number <= LARGEST
    assert number == number_of(Pattern(text, None, True))


def test_the_same_uri_has_another_id_under_each_match_policy() -> None:
    patterns = [Pattern.parse("a.b"), Pattern.prefixed("a.b"), Pattern.wildcard("a.b")]
    assert len({number_of(pattern) for pattern in patterns}) == 3


def test_an_id_does_not_change_with_the_version() -> None:
    """Nodes of different versions share a fleet while it is upgraded."""
    assert number_of(Pattern.parse("com.example.add2")) == 2_542_689_186_153_035


def test_an_id_that_is_taken_gives_way_to_the_next_one() -> None:
    pattern = Pattern.parse("com.example.add2")
    first = number_of(pattern)
    assert number_of(pattern, {first, first + 1}) == first + 2
