"""How long, how often and how fast: when the next request of a load is due, and when the load has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

ERRORS: Final = 10  # after so many a load ends
PATIENCE: Final = 10.0  # s without any progress, after which what is missing will not come


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a load ends: after `duration` seconds or `count` requests. `rate` is per second; None: as fast as answered."""

    duration: float
    count: int | None
    rate: float | None


class Plan:
    """A load under way. `began` and `ended` are those of `time.monotonic()`."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.began = time.monotonic()
        self.ended = self.began
        self.turns = 0
        self.errors = 0
        self.error = ""  # the first of them

    @property
    def over(self) -> bool:
        """Whether no further request is made."""
        count = self._bounds.count
        late = time.monotonic() - self.began >= self._bounds.duration
        return late or self.errors >= ERRORS or (count is not None and self.turns >= count)

    @property
    def stands_still(self) -> bool:
        """Whether nothing has come back for `PATIENCE` seconds."""
        return time.monotonic() - self.ended >= PATIENCE

    @property
    def part(self) -> float:
        """How much of the load is done, from 0 to 1."""
        parts = [(time.monotonic() - self.began) / self._bounds.duration]
        if self._bounds.count:
            parts.append(self.turns / self._bounds.count)
        return min(1.0, max(parts))

    @property
    def seconds(self) -> float:
        """From the beginning to what happened last."""
        return max(1e-9, self.ended - self.began)

    async def turn(self) -> float | None:
        """Wait until the next request is due. Return when it was, from which its duration counts; None after the end.

        With a rate a request that the program comes to too late was due all the same: waiting counts.
        """
        if self.over:
            return None
        number, self.turns = self.turns, self.turns + 1
        if self._bounds.rate is None:
            return time.monotonic()
        after = number / self._bounds.rate
        if after >= self._bounds.duration:
            self.turns -= 1
            return None
        due = self.began + after
        delay = due - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        return due

    def progressed(self) -> float:
        """Something has come back. Return the time."""
        self.ended = time.monotonic()
        return self.ended

    def fail(self, error: Exception) -> None:
        """A request has failed."""
        self.errors += 1
        self.error = self.error or str(error) or type(error).__name__

    async def drained(self, complete: Callable[[], bool]) -> None:
        """Return once `complete()`, or once the load stands still."""
        while not complete() and not self.stands_still:
            await asyncio.sleep(0.01)
