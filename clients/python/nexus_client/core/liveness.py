"""Whether the other end is still there."""

from __future__ import annotations

from typing import Final

INTERVAL: Final = 30.0  # seconds between heartbeats, until the server says otherwise
ANSWER: Final = 10.0  # seconds: the longest wait for the answer to a probe


class Liveness:
    """Watch a connection on which the server sends something every `interval` seconds."""

    __slots__ = ("_heard", "_interval", "_probed")

    def __init__(self) -> None:
        self._heard = 0.0
        self._interval = INTERVAL
        self._probed: float | None = None

    def begin(self, now: float, interval: float) -> None:
        self._interval = interval if interval > 0 else INTERVAL
        self.hear(now)

    def hear(self, now: float) -> None:
        """Something came."""
        self._heard = now
        self._probed = None

    def probe(self, now: float) -> None:
        """A question was sent; from now on an answer is wanted soon."""
        self._probed = now

    @property
    def probing(self) -> bool:
        """Whether an answer is awaited."""
        return self._probed is not None

    def deadline(self) -> float:
        """Return when the silence has lasted too long: then probe, or if probing already, give the connection up."""
        if self._probed is None:
            return self._heard + 1.25 * self._interval
        return self._probed + min(ANSWER, self._interval / 2)
