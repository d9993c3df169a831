"""Thousands of cores without I/O whose node ends and comes back, on a clock that only the simulation moves."""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from nexus_client.core.core import Core
from nexus_client.core.effects import Connect, Effect, State
from nexus_client.core.options import Options

ROUND_TRIP = 0.01  # s
RATE = 1000.0  # handshakes that the node manages in a second
BATCH, EVERY = 100, 0.1  # how a node closes its clients in order: so many, after so many seconds
RETRY_AFTER = 5.0  # s, with the 503 of a node that ends
GREETING = {"type": "connected", "clientId": "c", "timestamp": "2026-01-01T00:00:00.000Z", "limits": {}}
FAREWELL = {"type": "disconnect", "code": 1000, "reason": "Server shutting down", "reconnect": True}


class Storm:
    """A node, and its clients. `attempts` are the times of all attempts since `forget`, `here` who is connected."""

    def __init__(self, clients: int, delay: float, drain_delay: float = 5.0, seed: int = 1) -> None:
        """`delay`: the window, in seconds, that the node tells its clients for a return after a loss; `drain_delay` that of its
        farewell."""
        self.now = 0.0
        self.attempts: list[float] = []
        self.here: dict[int, int] = {}  # by client, the number of its connection
        self._chance = random.Random(seed)
        options = Options()
        self._cores = [Core(options, self._chance.random, lambda: "") for _ in range(clients)]
        self._open = True
        self._ends = False
        self._free = 0.0  # when the node has done all handshakes
        self._greeting = json.dumps({**GREETING, "heartbeat": {"interval": 1e6}, "reconnect": {"delay": delay * 1000}})
        self._farewell = json.dumps(FAREWELL | {"delay": drain_delay * 1000})
        self._order = itertools.count()
        self._calendar: list[tuple[float, int, Callable[[], None]]] = []
        self._due: list[float | None] = [None] * clients

    def start(self) -> None:
        for number in range(len(self._cores)):
            self._input(number, "start")
        self.until(lambda: len(self.here) == len(self._cores))

    def forget(self) -> None:
        self.attempts.clear()

    def kill(self) -> None:
        """The node ends without a word, and refuses connections."""
        self._open = False
        for number, attempt in list(self.here.items()):
            self._end(number, attempt, 1006)

    def drain(self) -> None:
        """The node closes its clients in order, then its port."""
        self._ends = True
        ordered = list(self.here.items())
        self._chance.shuffle(ordered)
        batches = [ordered[place : place + BATCH] for place in range(0, len(ordered), BATCH)]
        for place, batch in enumerate(batches):
            self._at(place * EVERY, partial(self._close, batch))
        self._at(len(batches) * EVERY, self.kill)

    def listen(self) -> None:
        self._open = True
        self._ends = False
        self._free = self.now

    def until(self, true: Callable[[], bool], seconds: float = 600.0) -> None:
        """Let time pass until that is true; fail after so many seconds."""
        end = self.now + seconds
        while not true():
            self.now, _, happen = heapq.heappop(self._calendar)
            assert self.now <= end, f"{len(self.here)} of {len(self._cores)} after {seconds} s"
            happen()

    def wait(self, seconds: float) -> None:
        """Let so many seconds pass."""
        over: list[bool] = []
        self._at(seconds, lambda: over.append(True))
        self.until(lambda: bool(over), seconds + 1)

    def back(self) -> bool:
        return len(self.here) == len(self._cores)

    # Clients.

    def _input(self, number: int, name: str, *arguments: Any) -> None:
        core = self._cores[number]
        getattr(core, name)(self.now, *arguments)
        for effect in core.drain():
            self._carry_out(number, effect)
        deadline = core.deadline()
        if deadline is not None and deadline != self._due[number]:
            self._due[number] = deadline
            self._at(max(deadline - self.now, 0.0), lambda: self._tick(number, deadline))

    def _tick(self, number: int, due: float) -> None:
        if self._due[number] == due:
            self._due[number] = None
            self._input(number, "tick")

    def _carry_out(self, number: int, effect: Effect) -> None:
        if isinstance(effect, Connect):
            self.attempts.append(self.now)
            self._at(ROUND_TRIP, lambda: self._arrive(number, effect.attempt))
        elif isinstance(effect, State):
            assert effect.state != "closed", effect

    # The node.

    def _arrive(self, number: int, attempt: int) -> None:
        if not self._open:
            self._input(number, "refused", attempt, None, None, "connection refused")
        elif self._ends:
            self._input(number, "refused", attempt, 503, RETRY_AFTER, "shutting down")
        else:
            self._free = max(self._free, self.now) + 1 / RATE
            self._at(self._free - self.now, lambda: self._accept(number, attempt))

    def _accept(self, number: int, attempt: int) -> None:
        if not self._open:
            self._input(number, "lost", attempt, 1006, "")
            return
        self._input(number, "opened", attempt)
        self._input(number, "received", attempt, self._greeting)
        self.here[number] = attempt

    def _close(self, clients: list[tuple[int, int]]) -> None:
        for number, attempt in clients:
            if self.here.get(number) == attempt:
                self._input(number, "received", attempt, self._farewell)
                self._end(number, attempt, 1000)

    def _end(self, number: int, attempt: int, code: int) -> None:
        del self.here[number]
        self._input(number, "lost", attempt, code, "")

    def _at(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._calendar, (self.now + seconds, next(self._order), happen))
