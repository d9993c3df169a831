"""The contract's rules for the form of messages from the server."""

from __future__ import annotations

import re
from typing import Any

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


def is_timestamp(text: Any) -> bool:
    """Return whether the text is UTC, ISO 8601 with milliseconds and `Z`."""
    return isinstance(text, str) and TIMESTAMP.match(text) is not None


def shaped(message: dict[str, Any], *members: str) -> dict[str, Any]:
    """Return the message; it must have exactly these members besides `type`, and a valid `timestamp` if it has one."""
    assert message.keys() == {"type", *members}, message
    assert "timestamp" not in message or is_timestamp(message["timestamp"]), message
    return message
