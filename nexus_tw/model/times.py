"""UTC timestamps in messages: ISO 8601 with milliseconds and `Z`."""

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

# The accepted forms of ISO 8601: `fromisoformat` alone accepts more, depending on the version of Python.
_OFFSET: Final = r"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_HOURS: Final = r"(?:[01][0-9]|2[0-3])"
_FRACTION: Final = r"(?:[.,][0-9]+)?"
_FORM: Final = re.compile(
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}(?:[Tt ]{_HOURS}:[0-9]{{2}}(?::[0-9]{{2}}{_FRACTION})?{_OFFSET})?"
    rf"|[0-9]{{8}}(?:[Tt]{_HOURS}[0-9]{{2}}(?:[0-9]{{2}}{_FRACTION})?{_OFFSET})?"
)


class Timestamps:
    """Formats seconds since the epoch, and caches the last millisecond's text, which many messages share."""

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
    """Return milliseconds since the epoch as text like `2026-01-31T12:00:00.123Z`."""
    seconds, part = divmod(millis, 1000)
    return f"{_second(seconds)}.{part:03}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    # `fromtimestamp` would take a float; `strftime` would write the year 999 with three digits.
    return (_START + seconds * _SECOND).isoformat(timespec="seconds")


def parse_millis(text: str, member: str) -> int:
    """Return an ISO 8601 timestamp as milliseconds since the epoch.

    Accepts a calendar date, alone or with a time of day: `2026-01-31`, `2026-01-31T12:00`,
    `2026-01-31 12:00:30.123456+01:00`, or without separators, `20260131T120030Z`. Without an offset it is UTC; digits beyond
    milliseconds are dropped. Raise `invalid_message`, naming the member, for anything else, including leap seconds, `24:00`,
    week dates and ordinal dates.
    """
    try:
        if _FORM.fullmatch(text) is None:
            raise ValueError(text)
        when = datetime.fromisoformat(text.upper())
        # In UTC the year may be out of range.
        if when.tzinfo is not UTC:
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        # Integer arithmetic: `timestamp()` is a float, which would be one millisecond too small once in about two hundred.
        return (when - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError):
        raise invalid(member, "not an ISO 8601 timestamp") from None
