"""UTC timestamps as they travel: ISO 8601 with milliseconds and `Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from nexus_tw.model.errors import invalid

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_START: Final = _EPOCH.replace(tzinfo=None)
_SECOND: Final = timedelta(seconds=1)
_MILLISECOND: Final = timedelta(milliseconds=1)

# The forms of ISO 8601 that are read: `fromisoformat` alone takes more, and not the same on every version of Python.
_OFFSET: Final = r"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_HOURS: Final = r"(?:[01][0-9]|2[0-3])"
_FRACTION: Final = r"(?:[.,][0-9]+)?"
_FORM: Final = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[Tt ]{_HOURS}:[0-9]{{2}}(?::[0-9]{{2}}{_FRACTION})?{_OFFSET})?"
    rf"|[0-9]{{8}}(?:[Tt]{_HOURS}[0-9]{{2}}(?:[0-9]{{2}}{_FRACTION})?{_OFFSET})?"
)


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
    """Return the milliseconds since the epoch that an ISO 8601 text stands for.

    A calendar date, alone or with a time of day: `2026-01-31`, `2026-01-31T12:00`, `2026-01-31 12:00:30.123456+01:00`, or
    without the separators, `20260131T120030Z`. What has no offset is UTC; digits beyond the millisecond are cut off. Raise
    `invalid_message` for anything else, leap seconds, `24:00`, week and ordinal dates among it.
    """
    try:
        if _FORM.fullmatch(text) is None:
            raise ValueError(text)
        when = datetime.fromisoformat(text.upper())
        # In UTC it may be in a year that cannot be written any more.
        if when.tzinfo is not UTC:
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        # Integers: `timestamp()` is a float, and one in two hundred milliseconds would come back as the one before.
        return (when - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        raise invalid(member, "not an ISO 8601 timestamp") from None
