"""Metadata of events on the sibling channel: used only for matching events, and void after any other message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_tw.bus.redis.entries import stored
from nexus_tw.bus.redis.twins import Twin, Twins, alone, lengths
from nexus_tw.model.positions import Position, Stored


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=10), st.integers(1, 2**53))
def test_each_of_a_run_gets_its_own(said: list[bytes], first: int) -> None:
    twins = Twins()
    twins.about(b"c", b"T.b:%d %d %b" % (first, len(said), lengths(said)) if any(said) else b"T.b:%d %d" % (first, len(said)))
    assert [twins.event(b"c") for _ in said] == [
        Twin(one, Position("T.b", first + place)) for place, one in enumerate(said)
    ]
    assert twins.event(b"c") is None


def test_without_a_history_there_is_metadata_and_no_position() -> None:
    twins = Twins()
    twins.about(b"c", alone(b"\x00\n1"))
    assert twins.event(b"c") == Twin(b"\x00\n1", None)


def test_another_message_in_between_voids_it() -> None:
    twins = Twins()
    for disturb in (lambda: twins.event(b"d"), twins.other, lambda: twins.about(b"c", b"-")):
        twins.about(b"c", b"T.b:1 2")
        assert twins.event(b"c") is not None
        disturb()
        assert twins.event(b"c") is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"-", b"T.b:1", b"T.b:1 x", b"T.b:x 1", b"T.b:1 2 1\nx", b"T.b:1 1 2\nx", b"T.b:1 1 -1\n", b"\xff:1 1", b"- 1 x\n"],
)
def test_what_cannot_be_read_says_nothing(payload: bytes) -> None:
    twins = Twins()
    assert twins.about(b"c", payload) is None
    assert twins.event(b"c") is None


@given(st.binary(max_size=60))
def test_no_bytes_break_it(payload: bytes) -> None:
    twins = Twins()
    twins.about(b"c", payload)
    twins.event(b"c")


def test_an_adopted_event_comes_with_its_place() -> None:
    twins = Twins()
    assert twins.about(b"c", b"T.b:7 f\n[\n1]") == (Position("T.b", 7), b"[\n1]")
    assert twins.event(b"c") is None


def test_entries_give_the_time_of_those_published_with_them() -> None:
    entries = [b"1", b"\x01:2:xy2", b"\x0117:0:3", b"\x0118:1::4"]
    assert stored(5, entries) == [
        Stored(5, b"1", 17),
        Stored(6, b"2", 17, b"xy"),
        Stored(7, b"3", 17),
        Stored(8, b"4", 18, b":"),
    ]
    assert stored(1, []) == []
