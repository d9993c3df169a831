"""A recording bus listener, and functions to wait for its records."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern, parse_pattern
from nexus_tw.model.positions import Position

reactor: Any = _reactor
PATIENCE = 15.0


class Recorder:
    """Records all calls. `changes` has `lost` and `restored` in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes]] = []
        self.metadata: list[bytes] = []  # what came with each of these
        self.positions: list[Position | None] = []  # and where it is in the history
        self.messages: list[bytes] = []
        self.changes: list[str] = []
        self.on_event: Callable[[str], None] | None = None

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None:
        self.events.append((event_type, data))
        self.metadata.append(metadata)
        self.positions.append(position)
        if self.on_event is not None:
            self.on_event(event_type)

    def message(self, body: bytes) -> None:
        self.messages.append(body)

    def lost(self) -> None:
        self.changes.append("lost")

    def restored(self) -> None:
        self.changes.append("restored")


async def until(condition: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Return as soon as the condition is true; fail if it does not become true in time."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await deferLater(reactor, 0.002)


def pattern(text: str) -> Pattern:
    return parse_pattern(text, "test")


async def subscribed(bus: IBus, *texts: str) -> None:
    """Subscribe, and wait until all subscriptions are active."""
    for text in texts:
        done: Deferred[None] = Deferred()
        bus.subscribe(pattern(text), lambda done=done: done.callback(None))  # type: ignore[misc]
        await done


async def published(bus: IBus, event_type: str, data: bytes = b"{}", metadata: bytes = b"") -> NexusError | None:
    """Publish an event. Return the error, if any."""
    taken = await placed(bus, event_type, data, metadata)
    return taken if isinstance(taken, NexusError) else None


async def placed(
    bus: IBus, event_type: str, data: bytes = b"{}", metadata: bytes = b""
) -> Position | NexusError | None:
    """Publish an event. Return its position, None without a history, or the error."""
    done: Deferred[Position | NexusError | None] = Deferred()
    bus.publish(event_type, data, done.callback, metadata)
    return await done


async def sent(bus: IBus, node: str | None, body: bytes) -> int | NexusError:
    done: Deferred[int | NexusError] = Deferred()
    bus.send(node, body, done.callback)
    return await done
