"""One attempt to connect, from its begin to the end of its socket."""

from __future__ import annotations

from enum import Enum
from typing import Final

from nexus_client.core.messages import Message

OPENING: Final = 20.0  # seconds until the WebSocket is open, the token included
GREETING: Final = 10.0  # seconds from there to `connected`
CLOSING: Final = 10.0  # seconds for the other end to close


class Phase(Enum):
    OPENING = "opening"
    OPEN = "open"  # the WebSocket is; the server has not greeted
    CONNECTED = "connected"
    CLOSING = "closing"  # this side has begun to close
    DROPPED = "dropped"


class Attempt:
    """`announced`: the server's `disconnect`. `connected_at`: when the server greeted. `deadline`: when the phase has lasted
    too long; None if nothing bounds it."""

    __slots__ = ("announced", "connected_at", "deadline", "number", "phase")

    def __init__(self, number: int, now: float) -> None:
        self.number = number
        self.phase = Phase.OPENING
        self.deadline: float | None = now + OPENING
        self.connected_at: float | None = None
        self.announced: Message | None = None

    def turn(self, phase: Phase, deadline: float | None) -> None:
        self.phase = phase
        self.deadline = deadline
