"""Ids of an event stream: what was written is read, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.model.names import is_name
from nexus_tw.model.positions import MAX_OFFSET, Position
from nexus_tw.protocols.sse.places import LONGEST, UNKNOWN, Places, place, read

NAMES = st.text(min_size=1, max_size=40).filter(is_name)
POSITIONS = st.builds(
    Position,
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=64),
    st.integers(0, MAX_OFFSET),
)


@given(st.dictionaries(NAMES, POSITIONS, max_size=5))
def test_an_id_is_read_as_it_was_written(positions: Mapping[str, Position]) -> None:
    places = Places()
    places.known = True
    for event_type, position in positions.items():
        places.move(event_type, Position("before", 1))
        places.move(event_type, position)
    text = places.text.decode("ascii")
    assert "\n" not in text and "\0" not in text
    if places.text != UNKNOWN:
        assert len(text) <= LONGEST
        assert read(text) == {event_type: position.text for event_type, position in positions.items()}


def test_the_id_of_one_type_is_that_of_a_stream_of_several_with_only_one_position() -> None:
    places = Places()
    places.move("täsk,a&b=c", Position("e.1", 7))
    assert places.text == place("täsk,a&b=c", Position("e.1", 7))


def test_what_is_too_long_for_a_header_is_not_written_and_the_next_id_may_be_shorter() -> None:
    places = Places()
    places.known = True
    for number in range(200):
        places.move(f"type-{number:03}", Position("e.1", number))
    assert places.text == UNKNOWN and read(UNKNOWN.decode()) is None
    assert place("ä" * 127 + "." + "ä" * 127 + ".ä", Position("e", 1)) != UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "2", "1&", "1&a", "1&a=", "1&a=e", "1&a=e:1&a=e:2", "1&a..b=e:1", "1&a=e:-1"),
        *("1&a=e:1,1&a=e:1", "a=e:1", "1&" * 2000),
    ],
)
def test_other_texts_say_nothing(text: str) -> None:
    assert read(text) is None


def test_who_knows_that_there_was_nothing_is_not_one_who_knows_nothing() -> None:
    places = Places()
    assert places.text == UNKNOWN
    places.known = True
    assert read(places.text.decode()) == {}
