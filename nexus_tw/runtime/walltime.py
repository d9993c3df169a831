"""Two kinds of time: the time of day, which somebody may set, and the reactor's, which only passes.

A reactor of Twisted has one for both, so that after a step of the clock by an hour its timers would be an hour early or late.
With `keep_steady` the reactor's own time, by which timers run and durations are measured, begins as the time of day and goes on
steadily; `wall` returns the time of day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime


def keep_steady(reactor: Any) -> None:
    """Make the reactor's time steady from now on."""
    if not hasattr(reactor, "wall"):
        began, monotonic = time.time() - time.monotonic(), time.monotonic
        reactor.wall = time.time
        reactor.seconds = lambda: began + monotonic()


def wall(clock: IReactorTime) -> float:
    """Return the time of day in seconds since the epoch. A clock that has one kind of time only tells that."""
    return wall_of(clock)()


def wall_of(clock: IReactorTime) -> Callable[[], float]:
    """Return the function that `wall` asks, for places that ask often."""
    found: Callable[[], float] = getattr(clock, "wall", clock.seconds)
    return found
