"""The heartbeat: one sweep for all connections instead of a timer for each.

Each connection is in one slot of a wheel, that of the second at which it may need attention: a ping, its timeout, its expiry.
A sweep checks only the slots that are due.
"""

from __future__ import annotations

from math import ceil
from random import Random
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from nexus_tw.model.errors import HEARTBEAT_TIMEOUT, Close
from nexus_tw.model.settings import Heartbeat
from nexus_tw.runtime.guard import Guard

RESOLUTION: Final = 1.0  # s; finer if the interval is short

_guarded: Final = Guard(__name__, "A connection could not be looked after")


class Beating(Protocol):
    """A connection as the heartbeat sees it. `heard` is `Pulse.now` at the last sign of life."""

    answers: bool  # whether its client answers pings: other clients are not pinged, and may be silent
    heard: float
    next_ping: float
    expires: float  # on the pulse's clock; infinity: never
    slot: int  # -1: none

    def ping(self) -> None: ...

    def close(self, close: Close) -> None: ...

    def expired(self) -> None:
        """Close: the connection has expired."""


class Pulse:
    """Pings clients, and closes those that are silent for too long or have expired."""

    def __init__(self, clock: IReactorTime, settings: Heartbeat, random: Random) -> None:
        self.settings = settings
        self._interval = settings.interval
        self._random = random
        self._step = min(RESOLUTION, settings.interval / 4)
        # A connection may have been heard up to one step later than `heard` says.
        self._patience = settings.timeout + self._step
        self._tick = 0
        # The value: whether a late sweep found it silent.
        self._slots: dict[int, dict[Beating, bool]] = {}
        self._loop = LoopingCall.withCount(self._sweep)
        self._loop.clock = clock
        self.now = 0.0  # s since the start, at the last sweep

    def start(self) -> None:
        self._loop.start(self._step, now=False)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def add(self, connection: Beating, lifetime: float | None) -> None:
        """Watch a connection. `lifetime` is how many seconds it may last; None: for ever."""
        connection.heard = self.now
        # Connections that open together are not pinged together.
        connection.next_ping = self.now + self._interval * self._random.uniform(0.5, 1.0)
        self.renew(connection, lifetime)

    def renew(self, connection: Beating, lifetime: float | None) -> None:
        """Let it last so many seconds from now on."""
        self.remove(connection)
        connection.expires = float("inf") if lifetime is None else self.now + lifetime
        self._place(connection)

    def remove(self, connection: Beating) -> None:
        slot = self._slots.get(connection.slot)
        connection.slot = -1
        if slot is not None:
            slot.pop(connection, None)

    def _place(self, connection: Beating, silent: bool = False) -> None:
        due = min(connection.next_ping, connection.expires)
        if connection.answers:
            due = min(due, connection.heard + self._patience)
        connection.slot = max(self._tick + 1, ceil(due / self._step))
        self._slots.setdefault(connection.slot, {})[connection] = silent

    def _sweep(self, ticks: int) -> None:
        self._tick += ticks
        self.now = self._tick * self._step
        late = ticks > 1
        for slot in sorted(slot for slot in self._slots if slot <= self._tick) if late else (self._tick,):
            for connection, silent in self._slots.pop(slot, {}).items():
                if connection.slot != slot:  # the visit to another connection has removed this one
                    continue
                _guarded(self._visit, connection, silent or not late)  # a failure must not stop the heartbeat of the others

    def _visit(self, connection: Beating, sure: bool) -> None:
        """Check one connection. `sure` is false if this process may have been stopped: data that arrived meanwhile is not read
        yet, so the connection gets one more sweep."""
        now = self.now
        silent = connection.answers and now - connection.heard >= self._patience
        if now >= connection.expires:
            connection.expired()
        elif silent and sure:
            connection.close(HEARTBEAT_TIMEOUT)
        else:
            if now >= connection.next_ping:
                if connection.answers:
                    connection.ping()
                connection.next_ping = now + self._interval
            if connection.slot >= 0:  # the ping may have been one byte too many for a client that does not read
                self._place(connection, silent)
