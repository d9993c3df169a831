"""Clients of a fleet: publishers, agents with telemetry, and watchers, of which some leave and come back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from tests.client import clock
from tests.e2e.server import NexusServer
from tests.reliability.book import Book, Message, Watcher
from tests.reliability.line import Line, connected

TELEMETRY = "telemetry.received"
AGAIN = 0.05  # s until what a server refused is tried again


class Publisher:
    """Publishes a stream of events of one type at one node; each gets one answer."""

    def __init__(self, name: str, event_type: str, node: NexusServer, book: Book) -> None:
        self.name = name
        self.event_type = event_type
        self.number = 0
        self.waiting: set[int] = set()
        self.answered = ""  # when, by the clock of the node
        self._node = node
        self._book = book
        self._last: Deferred[bool] | None = None
        self._line: Line | None = None

    async def start(self) -> None:
        self._line = await connected(self._node.port, self._node.token, self._arrived, self._ended)

    def send(self) -> None:
        self.number += 1
        self.waiting.add(self.number)
        data = {"source": self.name, "number": self.number}
        assert self._line is not None
        self._line.send({"type": "publish", "eventType": self.event_type, "data": data, "id": self.number})

    async def last(self) -> int:
        """Publishes until an event is acknowledged that nothing came after. Returns its number."""
        while True:
            self._last = Deferred()
            self.send()
            if await self._last:
                return self.number
            await later(AGAIN)

    def stop(self) -> None:
        if self._line is not None:
            self._line.drop()

    def _arrived(self, message: Message) -> None:
        number = message["id"]
        if number not in self.waiting:
            self._book.fault(f"{self.name} got a second answer to {number}")
        self.waiting.discard(number)
        self.answered = message["timestamp"]
        taken = message["type"] == "published"
        if taken:
            self._book.taken(self.event_type, self.name, number, message.get("position"))
        else:
            self._book.refused += 1
            if message.get("code") != "bus_unavailable" or not message.get("retryable"):
                self._book.fault(f"{self.name} was answered {message}")
        if number == self.number and self._last is not None and not self._last.called:
            self._last.callback(taken)

    def _ended(self) -> None:
        self._book.fault(f"the connection of {self.name} ended")


class Agent:
    """Sends samples, each of which is acknowledged."""

    def __init__(self, name: str, node: NexusServer, book: Book) -> None:
        self.name = name
        self.number = 0
        self.acknowledged = 0
        self.node = node
        self._book = book
        self._line: Line | None = None

    async def start(self) -> None:
        self._line = await connected(self.node.port, self.node.token, self._arrived, self._ended)

    @property
    def waiting(self) -> int:
        return self.number - self.acknowledged

    def send(self) -> None:
        assert self._line is not None
        self.number += 1
        self._line.send({"type": "telemetry", "agentId": self.name, "metrics": {"number": self.number}})

    def stop(self) -> None:
        if self._line is not None:
            self._line.drop()

    def _arrived(self, message: Message) -> None:
        if message["type"] == "telemetry_ack":
            # Samples of one connection are acknowledged in their order.
            self.acknowledged += 1
            self._book.acknowledged.setdefault((TELEMETRY, self.name), []).append(self.acknowledged)
        else:
            self._book.fault(f"{self.name} was answered {message}")

    def _ended(self) -> None:
        self._book.fault(f"the connection of {self.name} ended")


class Subscriber:
    """A watcher's connection. With `chance` it leaves now and then without a word, and comes back, to whichever node."""

    def __init__(
        self, watcher: Watcher, events: Sequence[str], nodes: Sequence[NexusServer], chance: random.Random | None = None
    ) -> None:
        self.watcher = watcher
        self._events = list(events)
        self._nodes = nodes
        self._chance = chance
        self._line: Line | None = None
        self._since: dict[str, str] | None = None
        self._standing: Deferred[None] = Deferred()
        self._number = 0
        self.visits = 0

    async def start(self) -> None:
        """Returns once it has subscribed, however often that must be tried."""
        self._since = self.watcher.since
        node = self._nodes[0] if self._chance is None else self._chance.choice(self._nodes)
        self._line = await connected(node.port, node.token, self._arrived, self._ended, patience=60)
        self._standing = Deferred()
        self._subscribe()
        await self._standing
        self.visits += 1

    async def visit(self) -> None:
        """Leaves and comes back."""
        self.leave()
        await self.start()

    def leave(self) -> None:
        if self._line is not None:
            self._line.drop()
            self._line = None

    def _subscribe(self) -> None:
        if self._line is None or self._line.over:
            return
        self._number += 1
        message: Message = {"type": "subscribe", "events": self._events, "id": self._number}
        if self._since is not None:
            message["since"] = self._since
        self._line.send(message)

    def _arrived(self, message: Message) -> None:
        kind = message["type"]
        if kind == "event":
            data = message["data"]
            if message["eventType"] == TELEMETRY:
                self.watcher.event(message, data["agentId"], data["metrics"]["number"])
            else:
                self.watcher.event(message, data["source"], data["number"])
        elif kind == "continuity":
            self.watcher.continuity(message)
        elif kind == "subscribed":
            self.watcher.subscribed(message, self._since)
            self._standing.callback(None)
        elif message.get("code") == "bus_unavailable":
            clock.callLater(AGAIN, self._subscribe)
        else:
            self.watcher.fault(f"was answered {message}")

    def _ended(self) -> None:
        self.watcher.fault("was disconnected")


def later(seconds: float) -> Deferred[Any]:
    """Fires after that time."""
    done: Deferred[Any] = Deferred()
    clock.callLater(seconds, done.callback, None)
    return done
