"""WebSocket clients that reconnect whenever their connection ends, through a proxy or without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as TooLate
from twisted.internet.task import deferLater

from tests.e2e.agent import Agent, connect
from tests.e2e.server import clock

PAUSE = 0.1  # s before the next attempt, where one was refused


class Returning:
    """Clients of one address. `refusals` has the reasons of failed attempts, `ends` the close codes and reasons."""

    def __init__(self, url: str, authority: Path, token: str) -> None:
        self._url = url
        self._authority = authority
        self._headers = {"Authorization": f"Bearer {token}"}
        self.refusals: list[str] = []
        self.ends: list[tuple[int | None, str | None]] = []
        self.here: list[Agent] = []
        self._size = 0
        self._held = False
        self._over = False
        self._lives: list[Deferred[None]] = []

    def add(self, size: int) -> None:
        """Add this many clients."""
        self._size += size
        self._lives += [ensureDeferred(self._live()) for _ in range(size)]

    def hold(self) -> None:
        """Let no client reconnect, like clients that wait for the time that the server asked for."""
        self._held = True

    def release(self) -> None:
        self._held = False

    async def complete(self, seconds: float = 30) -> None:
        """Wait until every client is connected."""
        end = clock.seconds() + seconds
        while len(self.here) < self._size:
            assert clock.seconds() < end, f"{len(self.here)} of {self._size} are there: {self.refusals}, {self.ends}"
            await deferLater(clock, 0.02)

    async def leave(self) -> None:
        self._over = True
        for agent in self.here:
            agent.sendClose(1000)
        for life in self._lives:
            await life

    async def _live(self) -> None:
        while not self._over:
            if self._held:
                await deferLater(clock, 0.01)
                continue
            try:
                agent = await connect(self._url, authority=self._authority, headers=self._headers)
            except (ConnectionError, TooLate) as refusal:
                self.refusals.append(str(refusal) or type(refusal).__name__)
                await deferLater(clock, PAUSE)
                continue
            self.here.append(agent)
            end: Any = await agent.closed
            self.here.remove(agent)
            if not self._over:
                self.ends.append(end)
