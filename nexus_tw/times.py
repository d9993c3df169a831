"""UTC timestamps as they travel: ISO 8601 with milliseconds and `Z`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from nexus_tw.errors import invalid

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_START: Final = _EPOCH.replace(tzinfo=None)
_SECOND: Final = timedelta(seconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Timestamps:
    """Formats seconds since the epoch; remembers the last millisecond, as many messages share one."""

    __slots__ = ("_last", "_text")

    def __init__(self) -> None:
        self._last = -1
        self._text = ""

    def text(self, seconds: float) -> str:
        millis = int(seconds * 1000)
        if millis != self._last:
            self._last = millis
            self._text = format_millis(millis)
        return self._text


def format_millis(millis: int) -> str:
    """`2026-01-31T12:00:00.123Z` for milliseconds since the epoch."""
    seconds, part = divmod(millis, 1000)
    return f"{_second(seconds)}.{part:03}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # Not by `fromtimestamp`, which takes a float; not by `strftime`, which writes the year 999 in three digits.
    return (_START + seconds * _SECOND).isoformat(timespec="seconds")


def parse_millis(text: str, member: str) -> int:
    """Milliseconds since the epoch for an ISO 8601 text; without an offset it is read as UTC."""
    try:
        when = datetime.fromisoformat(text)
        # In UTC it may be in a year that cannot be written any more.
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        # Integers: `timestamp()` is a float, and one in two hundred milliseconds would come back as the one before.
        return (when - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        raise invalid(member, "not an ISO 8601 timestamp") from None
