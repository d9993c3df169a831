from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.cache import BoundedCache


@given(
    st.lists(st.tuples(st.text(max_size=40), st.integers(0, 900), st.booleans())), st.integers(1, 6), st.integers(0, 2000)
)
def test_answers_are_bounded_in_number_and_bytes_whatever_their_keys_are(
    steps: list[tuple[str, int, bool]], most: int, room: int
) -> None:
    kept: BoundedCache[str, int] = BoundedCache(most, room)
    told: dict[str, int] = {}
    for text, size, keep in steps:
        if keep and text not in kept:
            assert kept.keep(text, size, text, size) == size
            told[text] = size
        elif text in kept:
            kept.drop(text, text, kept[text])
            assert text not in kept
        kept.drop("never", "never")
        assert len(kept) <= most
        assert 0 <= kept._size <= room
        assert sum(len(text) + size for text, size in kept.items()) <= kept._size
        assert all(told[text] == size for text, size in kept.items())
    kept.forget()
    assert not kept and kept._size == 0


def test_what_alone_is_too_large_is_not_kept_and_costs_the_others_nothing() -> None:
    kept: BoundedCache[str, bool] = BoundedCache(10, 1000)
    kept.keep("a", True, "a")
    assert kept.keep("x" * 5000, False, "x" * 5000) is False
    assert list(kept) == ["a"]
