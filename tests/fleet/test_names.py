"""Names of nodes, and where they are on the bus."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.fleet.names import numbered, on_bus

NAMES = st.from_regex(r"[a-z.0-9-]{1,12}", fullmatch=True)


def test_the_first_name_is_that_of_the_bus() -> None:
    assert [numbered("node-1", number) for number in (1, 2, 3)] == ["node-1", "node-1.2", "node-1.3"]


@given(NAMES, st.integers(1, 100), NAMES, st.integers(1, 100))
def test_names_tell_where_a_node_is_and_are_unique(one: str, first: int, two: str, second: int) -> None:
    """Also where the bus's own name ends like a number."""
    assert on_bus(numbered(one, first)) == one
    assert (numbered(one, first) == numbered(two, second)) == ((one, first) == (two, second))
