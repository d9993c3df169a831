"""The heartbeat: one sweep for all connections, not a timer each.

Each connection stands in one slot of a wheel, the second at which something may have to be done for it: a ping, the end
of its patience, the end of its token. A sweep looks only at the slots that are due.
"""

from __future__ import annotations

from math import ceil
from random import Random
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from nexus_tw.errors import HEARTBEAT_TIMEOUT, TOKEN_EXPIRED, Close
from nexus_tw.settings import Heartbeat

RESOLUTION: Final = 1.0  # s; finer where the interval is short


class Beating(Protocol):
    """A connection as the heartbeat knows it. `heard` is `Pulse.now` at the last sign of life."""

    heard: float
    next_ping: float
    expires: float  # on the pulse's clock; infinity: never
    slot: int

    def ping(self) -> None: ...

    def close(self, close: Close) -> None: ...


class Pulse:
    """Pings, and closes those from whom nothing comes, or whose token is over."""

    def __init__(self, clock: IReactorTime, settings: Heartbeat, random: Random) -> None:
        self._interval = settings.interval
        self._timeout = settings.timeout
        self._random = random
        self._clock = clock
        self._step = min(RESOLUTION, settings.interval / 4)
        self._tick = 0
        self._slots: dict[int, dict[Beating, None]] = {}
        self._loop = LoopingCall.withCount(self._sweep)
        self._loop.clock = clock
        self.now = 0.0  # s since the start, as of the last sweep; counted, so that no clock change moves it

    def start(self) -> None:
        self._loop.start(self._step, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def add(self, connection: Beating, lifetime: float | None) -> None:
        """`lifetime` is how many seconds the client's token is still good for; None: for ever."""
        connection.heard = self.now
        # Those who come together are not pinged together.
        connection.next_ping = self.now + self._interval * self._random.uniform(0.5, 1.0)
        connection.expires = float("inf") if lifetime is None else self.now + lifetime
        self._place(connection)

    def remove(self, connection: Beating) -> None:
        slot = self._slots.get(connection.slot)
        if slot is not None:
            slot.pop(connection, None)

    def _place(self, connection: Beating) -> None:
        due = min(connection.next_ping, connection.heard + self._timeout, connection.expires)
        connection.slot = max(self._tick + 1, ceil(due / self._step))
        self._slots.setdefault(connection.slot, {})[connection] = None

    def _sweep(self, ticks: int) -> None:
        for _ in range(ticks):
            self._tick += 1
            self.now = self._tick * self._step
            for connection in self._slots.pop(self._tick, ()):
                self._visit(connection)

    def _visit(self, connection: Beating) -> None:
        now = self.now
        if now >= connection.expires:
            connection.close(TOKEN_EXPIRED)
        elif now - connection.heard >= self._timeout:
            connection.close(HEARTBEAT_TIMEOUT)
        else:
            if now >= connection.next_ping:
                connection.ping()
                connection.next_ping = now + self._interval
            self._place(connection)
