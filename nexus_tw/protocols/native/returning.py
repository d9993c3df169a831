"""Returning: tells clients the time over which to spread their return if the connection is lost without a word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nexus_tw.protocols import frames
from nexus_tw.protocols.native.encoding import JSON_TEXT
from nexus_tw.protocols.native.messages import ServerPing

CHANGE: Final = 0.25  # of what was told, by which it must have changed to be told again
ROUNDS: Final = 1.5  # heartbeat intervals in which each connection is pinged at least once, even if a sweep is late


class Returning:
    """The delay as it was told last, and the ping that tells it; both are made once for all connections."""

    def __init__(self, delay: Callable[[], int], interval: float, now: Callable[[], float]) -> None:
        """`delay` returns the delay for the connections there are (ms); `interval` is that of the heartbeat (s)."""
        self._current = delay
        self._now = now
        self._plain = self._ping = _encoded(None)
        self._told = delay()
        self._rounds = ROUNDS * interval
        self._since: float | None = None  # when the pings began to tell it; None: everybody knows

    @property
    def delay(self) -> int:
        """The delay for a new connection (ms)."""
        self._look()
        return self._told

    @property
    def ping(self) -> bytes:
        """The ping that is due for a connection: with the delay if that has changed since some were told."""
        self._look()
        if self._since is not None:
            now = self._now()
            self._since = min(self._since, now)  # the wall clock may have been set back
            if now - self._since > self._rounds:
                self._since = None
                self._ping = self._plain
        return self._ping

    def _look(self) -> None:
        current = self._current()
        if abs(current - self._told) > CHANGE * self._told:
            self._told = current
            self._since = self._now()
            self._ping = _encoded(current)


def _encoded(delay: int | None) -> bytes:
    # Both pings: a browser answers the WebSocket ping by itself, an agent of the guide answers the message.
    return JSON_TEXT.message(ServerPing(delay=delay)) + frames.frame(frames.PING, b"")
