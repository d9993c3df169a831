"""When to try again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LONGEST: Final = 30.0  # seconds: the largest window of the back-off
STABLE: Final = 30.0  # seconds of a connection after which the back-off begins anew
DELAY: Final = 1.0  # seconds: the server's delay until it says otherwise
SPREAD: Final = 1.0  # seconds over which those are spread who were refused until the same time


def backoff(failures: int) -> float:
    """Return the window, in seconds, after so many failures: 1, 1, 2, 4, … 30."""
    return min(LONGEST, 2.0 ** min(max(failures - 1, 0), 8))


class Retry:
    """The waits between attempts to connect.

    The time after a loss is divided into windows, with one attempt in each. The first window is the delay that the server
    wishes; no later one is shorter, nor shorter than the back-off. The attempt's place in its window is drawn once for each
    loss, evenly, and stays the same in all windows. So the clients of a server that went down are spread evenly over the
    first window, and no later second has more attempts. A new draw after each failure would make them more frequent: clients
    that draw an early place twice meet those that drew a late one.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self.failures = 0
        self._delay = DELAY
        self._told = DELAY  # by the present connection
        self._place: float | None = None
        self._window = 0.0  # the last attempt's
        self._end = 0.0  # of that window

    def wait(self, now: float, delay: float | None = None, steep: bool = False, after: float = 0.0) -> float:
        """Return the seconds until the next attempt, and count a failure.

        `delay`: the window that the server named for this return. `steep`: apply the back-off the first time already.
        `after`: seconds to wait in any case (`Retry-After`).
        """
        if delay is None:
            window = self._delay
        else:
            window = delay
            self._delay = max(self._delay, delay)
        if self.failures or steep:
            window = max(window, backoff(self.failures))
        self.failures += 1
        if self._place is None:
            self._place = self._random()
            begin, spread = now, window
        else:
            # The place has spread this client's attempts, and so their refusals.
            window = max(window, self._window)
            begin, spread = max(now, self._end), SPREAD
        wait = begin - now + self._place * window
        if after:
            wait = max(wait, after + self._place * spread)
        self._window = window
        self._end = now + wait + (1 - self._place) * window
        return wait

    def greeted(self, delay: float) -> None:
        """A server has accepted the connection and wishes this delay, as things are.

        While its other clients are still on their way, it knows of few: until the connection has lasted, a longer delay
        of before stays, also that of a farewell.
        """
        self._told = delay
        self._delay = max(self._delay, delay) if self.failures else delay

    def wished(self, delay: float) -> None:
        """The server wishes another delay, in mid-session."""
        self._delay = self._told = delay

    def hasten(self, now: float) -> None:
        """The next attempt is made before its time."""
        self._end = now

    def ended(self, lasted: float) -> None:
        """A connection has ended after so many seconds."""
        self._place = None
        if lasted >= STABLE:
            self.failures = 0
            self._delay = self._told
