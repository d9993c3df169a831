"""Text for people: what came over the network is shown, but cannot steer the terminal."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

# C0 and C1 control characters, and those that turn the direction of writing.
_STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Return the text with control characters written as escapes; line feeds and tabs stay."""
    return _STEERING.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def compact(value: Any) -> str:
    """Return JSON on one line, in the characters that people read."""
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def ago(seconds: float) -> str:
    """Return a span of time in words with its largest two units: `2 days 3 hours`."""
    left, parts = int(abs(seconds)), []
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(parts[:2]) or "0 seconds"


def now() -> str:
    """Return the time of day where the reader is, with milliseconds."""
    return datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]


def moment(timestamp: float) -> str:
    """Return a Unix time as UTC, in the form of the protocol without fractions."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
