"""Positions as text, and invalid ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.errors import NexusError
from nexus_tw.model.positions import MAX_EPOCH, MAX_OFFSET, Position

EPOCHS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=MAX_EPOCH)


@given(EPOCHS, st.integers(0, MAX_OFFSET))
def test_a_position_is_read_as_it_was_written(epoch: str, offset: int) -> None:
    position = Position(epoch, offset)
    assert str(position) == position.text == f"{epoch}:{offset}"
    assert Position.parse(position.text, "since") == position


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":1", "a:", "a", "a:-1", "a:+1", "a:01", "a:1.0", "a:1e3", "a: 1", "a:1 ", " a:1", "a b:1", "a:b:1"),
        *("a:1\n", "ä:1", "a:\N{ARABIC-INDIC DIGIT ONE}", "\0:1", "\x7f:1", f"{'a' * (MAX_EPOCH + 1)}:1"),
        *(f"a:{MAX_OFFSET + 1}", f"a:{'9' * 16}", f"a:{'1' * 100000}", "a" * 100000),
    ],
)
def test_what_is_no_position_is_refused_by_the_name_of_its_member(text: str) -> None:
    with pytest.raises(NexusError) as refused:
        Position.parse(text, "since.task")
    assert refused.value.code == "invalid_message"
    assert "since.task: a position is EPOCH:OFFSET" in refused.value.message
    assert len(refused.value.message) < 200
