from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus_tw.model.errors import NexusError
from nexus_tw.model.times import Timestamps, format_millis, parse_millis

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


TAKEN = {
    "2026-01-31": "2026-01-31T00:00:00.000Z",
    "2026-01-31T12:00": "2026-01-31T12:00:00.000Z",
    "2026-01-31T12:00Z": "2026-01-31T12:00:00.000Z",
    "2026-01-31T12:00:30": "2026-01-31T12:00:30.000Z",
    "2026-01-31 12:00:30Z": "2026-01-31T12:00:30.000Z",
    "2026-01-31t12:00:30z": "2026-01-31T12:00:30.000Z",
    "2026-01-31T12:00:30.5Z": "2026-01-31T12:00:30.500Z",
    "2026-01-31T12:00:30,5Z": "2026-01-31T12:00:30.500Z",
    "2026-01-31T12:00:30.123456789Z": "2026-01-31T12:00:30.123Z",
    "2026-01-31T12:00:30.1239999999999Z": "2026-01-31T12:00:30.123Z",
    "2026-01-31T12:00:30+01": "2026-01-31T11:00:30.000Z",
    "2026-01-31T12:00:30+0130": "2026-01-31T10:30:30.000Z",
    "2026-01-31T12:00:30-01:30": "2026-01-31T13:30:30.000Z",
    "2026-01-31T12:00:30-00:00": "2026-01-31T12:00:30.000Z",
    "20260131": "2026-01-31T00:00:00.000Z",
    "20260131T1200": "2026-01-31T12:00:00.000Z",
    "20260131T120030.5+0100": "2026-01-31T11:00:30.500Z",
    "20260131T120030Z": "2026-01-31T12:00:30.000Z",
}


@pytest.mark.parametrize("text", TAKEN)
def test_the_forms_of_iso_8601_that_are_taken(text: str) -> None:
    assert format_millis(parse_millis(text, "timestamp")) == TAKEN[text]


@pytest.mark.parametrize(
    "text",
    [
        "2026-W05-6",
        "2026-031",
        "2026-1-31",
        "26-01-31",
        "+2026-01-31",
        "2026-01",
        "2026",
        "2026-01-31T12",
        "2026-01-31x12:00",
        "2026-01-31T1200",
        "20260131T12:00",
        "2026-01-31T24:00",
        "2026-01-31T23:59:60Z",
        "2026-01-31T12:60",
        "2026-01-31T12:00:30.Z",
        "2026-01-31T12:00:30+1",
        "2026-01-31T12:00:30+24:00",
        "2026-01-31T12:00:30+01:00:00",
        "2026-01-31T12:00 Z",
        "2026-01-31T12:00:30Z ",
        "2026-01-31T12:00:30Z\n",
        "2026-02-29",
        "\u0662\u0660\u0662\u0666-01-31",
        "2026-01-31T12:00:30\u2212" + "01:00",
    ],
)
def test_forms_that_one_python_takes_and_another_does_not_are_refused_by_all(text: str) -> None:
    with pytest.raises(NexusError, match="timestamp: not an ISO 8601 timestamp"):
        parse_millis(text, "timestamp")


@given(st.lists(st.floats(0, 4e9), max_size=20))
def test_the_remembered_text_is_always_that_of_the_time_asked_for(moments: list[float]) -> None:
    timestamps = Timestamps()
    for seconds in moments:
        assert timestamps.text(seconds) == timestamps.text(seconds) == format_millis(int(seconds * 1000))
