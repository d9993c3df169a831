from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.budgets import Shelf
from nexus_tw.model.recent import Recent
from nexus_tw.model.settings import Limits


def test_the_oldest_of_who_has_more_than_its_share_goes_first_and_else_the_oldest_of_all() -> None:
    recent: Recent[int] = Recent(Limits(share=0.5), 4)
    for key, subject in enumerate("abbb"):
        recent.put(key, subject)
    recent.put(4, "c")
    assert [key for key in range(5) if key in recent] == [0, 2, 3, 4]
    recent.put(5, "c")
    assert [key for key in range(6) if key in recent] == [2, 3, 4, 5]


def test_a_key_that_comes_again_is_the_latest() -> None:
    recent: Recent[int] = Recent(Limits(share=1), 2)
    for key in (1, 2, 1, 3):
        recent.put(key, "a")
    assert 1 in recent and 3 in recent and len(recent) == 2


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcd")), max_size=120),
    st.integers(0, 12),
    st.sampled_from([0.1, 0.25, 0.5, 1.0]),
)
def test_it_remembers_what_a_shelf_keeps_of_things_of_one_size(
    puts: list[tuple[int, str]], size: int, share: float
) -> None:
    limits = Limits(share=share)
    recent: Recent[int] = Recent(limits, size)
    shelf: Shelf[int, None] = Shelf(limits, size)
    for key, subject in puts:
        recent.put(key, subject)
        shelf.put(key, None, subject, 1)
        assert {each for each in range(31) if each in recent} == {each for each in range(31) if each in shelf}
        assert len(recent) == len(shelf) <= size
        assert len(recent._parts) == len(set(recent._kept.values()))
