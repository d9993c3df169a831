"""What a simulated fleet has done and does, in figures."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Final

WINDOW: Final = 5.0  # s over which rates are taken


class Tally:
    """Counts of a fleet. `samples` were measured, `stored` of them acknowledged by the server; `commands` were answered."""

    def __init__(self) -> None:
        self.samples = self.stored = self.events = self.commands = 0
        self._states: dict[str, str] = {}  # by agent
        self.states: Counter[str] = Counter()  # how many agents are in each

    def turn(self, agent: str, state: str) -> None:
        """An agent's connection is in this state now: that of a client, or `away`."""
        if agent in self._states:
            self.states[self._states[agent]] -= 1
        self._states[agent] = state
        self.states[state] += 1

    def settled(self, stored: asyncio.Future[None]) -> None:
        """The server has stored a sample, or it never will."""
        if not stored.cancelled() and stored.exception() is None:
            self.stored += 1


class Rates:
    """How fast counts grow, per second, over the last few seconds."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, tuple[int, ...]]] = deque()

    def look(self, now: float, *counts: int) -> tuple[float, ...]:
        """Take the counts of this moment and return the rate of each; 0.0 the first time."""
        self._looks.append((now, counts))
        while len(self._looks) > 2 and self._looks[1][0] <= now - WINDOW:
            self._looks.popleft()
        began, first = self._looks[0]
        return tuple(
            (count - before) / (now - began) if now > began else 0.0 for count, before in zip(counts, first, strict=True)
        )
