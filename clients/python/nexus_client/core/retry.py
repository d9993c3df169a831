"""When to try again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LONGEST: Final = 30.0  # seconds: the largest window of the back-off
STABLE: Final = 30.0  # seconds of a connection after which the back-off begins anew
DELAY: Final = 1.0  # seconds: the server's delay until it says otherwise


def backoff(failures: int) -> float:
    """Return the window, in seconds, after so many failures: 1, 1, 2, 4, … 30."""
    return min(LONGEST, 2.0 ** min(max(failures - 1, 0), 8))


class Retry:
    """The waits between attempts to connect.

    Each is drawn evenly from a window that begins at 0, so that the clients of a server that went down do not return at once
    ("full jitter"). `delay` is the window that the server wishes; after the first failure the window is at least that of the
    back-off.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.delay = DELAY
        self.failures = 0

    def wait(self, delay: float | None = None, steep: bool = False, after: float = 0.0) -> float:
        """Return the seconds until the next attempt, and count a failure.

        `delay`: the window that the server named for this return. `steep`: apply the back-off the first time already.
        `after`: seconds to wait in any case (`Retry-After`).
        """
        window = self.delay if delay is None else delay
        if self.failures or steep:
            window = max(window, backoff(self.failures))
        self.failures += 1
        return after + self._random() * window

    def ended(self, lasted: float) -> None:
        """A connection has ended after so many seconds."""
        if lasted >= STABLE:
            self.failures = 0
