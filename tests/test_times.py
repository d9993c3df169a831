from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.errors import NexusError
from nexus_tw.times import Timestamps, format_millis, parse_millis

SHAPE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FIRST = -62135596800000  # 0001-01-01
LAST = 253402300799999  # the end of 9999


def test_a_timestamp_is_iso_8601_with_milliseconds_and_z() -> None:
    assert format_millis(0) == "1970-01-01T00:00:00.000Z"
    assert format_millis(1769860800123) == "2026-01-31T12:00:00.123Z"


@given(st.integers(FIRST, LAST))
@example(FIRST)
@example(LAST)
@example(-1)
def test_every_millisecond_of_every_year_comes_back(millis: int) -> None:
    text = format_millis(millis)
    assert SHAPE.fullmatch(text)
    assert parse_millis(text, "timestamp") == millis


@given(
    st.datetimes(timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))))
    | st.datetimes().map(lambda when: when.replace(tzinfo=UTC))
)
def test_what_is_read_can_be_written_or_is_refused(when: datetime) -> None:
    try:
        millis = parse_millis(when.isoformat(), "timestamp")
    except NexusError:
        assert when.year in (1, 9999)
    else:
        assert SHAPE.fullmatch(format_millis(millis))
        rest = when - datetime(1970, 1, 1, tzinfo=UTC) - timedelta(milliseconds=1) * millis
        assert timedelta(0) <= rest < timedelta(milliseconds=1)


def test_a_time_without_an_offset_is_utc() -> None:
    assert parse_millis("2026-01-31T12:00:00", "timestamp") == parse_millis("2026-01-31T14:00:00+02:00", "timestamp")


@pytest.mark.parametrize("text", ["", "now", "2026-13-01", "2026-01-31T25:00:00Z", "1", "0001-01-01T00:00:00+01:00", "\ud800"])
def test_what_is_no_timestamp_is_refused_by_the_members_name(text: str) -> None:
    with pytest.raises(NexusError) as caught:
        parse_millis(text, "timestamp")
    assert caught.value.message == "Invalid message format: timestamp: not an ISO 8601 timestamp"


@given(st.lists(st.floats(0, 4e9), max_size=20))
def test_the_remembered_text_is_always_that_of_the_time_asked_for(moments: list[float]) -> None:
    timestamps = Timestamps()
    for seconds in moments:
        assert timestamps.text(seconds) == timestamps.text(seconds) == format_millis(int(seconds * 1000))
