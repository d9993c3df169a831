"""Type codes of the messages that a session sends or answers; `messages` has those of what clients send."""

from __future__ import annotations

from typing import Final

WELCOME: Final = 2
ABORT: Final = 3
CHALLENGE: Final = 4
GOODBYE: Final = 6
ERROR: Final = 8
PUBLISHED: Final = 17
SUBSCRIBED: Final = 33
UNSUBSCRIBED: Final = 35
CALL: Final = 48
RESULT: Final = 50
REGISTERED: Final = 65
UNREGISTERED: Final = 67
INVOCATION: Final = 68
INTERRUPT: Final = 69
