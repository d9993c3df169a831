"""Nodes on a bus: how to make them, and faults of their network."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.bus.redis.connection import Unreachable
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model import settings
from nexus_tw.model.positions import Position
from tests.bus.recording import Recorder, sent, until


class Make(Protocol):
    """Makes a bus for a node of that name, and for a realm; buses of the same realm are connected."""

    def __call__(self, node: str, realm: str = "nexus", history: settings.History = ...) -> IBus: ...


class Node(NamedTuple):
    bus: IBus
    heard: Recorder


Pair = tuple[Node, Node]


async def settled(*nodes: Node) -> None:
    """Wait until these nodes have received everything published so far."""
    for node in nodes:
        seen = len(node.heard.messages)
        assert await sent(node.bus, node.bus.node, b"settled") == 1
        await until(lambda node=node, seen=seen: len(node.heard.messages) > seen)  # type: ignore[misc]
        node.heard.messages.pop()


class Faults(Protocol):
    """Faults of the network of nodes."""

    async def cut(self, node: Node) -> None:
        """Disconnect the node from the bus until `mend`; return once it has noticed."""

    async def mend(self, node: Node) -> None:
        """Reconnect it; return once it has noticed."""

    def drop(self, node: Node, events: int) -> None:
        """Lose this many of the next events to it, silently."""


class FaultyBus(MemoryBus):
    """A node on the memory bus that can lose its broker, and events."""

    def __init__(self, broker: MemoryBroker, node: str) -> None:
        super().__init__(broker, node)
        self.cut = False
        self.dropping = 0

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None) -> None:
        if self.cut:
            return
        if self.dropping:
            self.dropping -= 1
            return
        super().event(event_type, data, metadata, position)


class MemoryFaults:
    """Implements `Faults` for the memory bus."""

    async def cut(self, node: Node) -> None:
        bus = self._bus(node)
        bus.cut, bus.available = True, False
        node.heard.lost()

    async def mend(self, node: Node) -> None:
        bus = self._bus(node)
        bus.cut, bus.available = False, True
        node.heard.restored()

    def drop(self, node: Node, events: int) -> None:
        self._bus(node).dropping = events

    def _bus(self, node: Node) -> FaultyBus:
        assert isinstance(node.bus, FaultyBus)
        return node.bus


class _Nowhere:
    """An unreachable Redis."""

    async def talk(self, *_: object) -> None:
        raise Unreachable("cut")


class RedisFaults:
    """Implements `Faults` for Redis."""

    def __init__(self) -> None:
        self._doors: dict[str, Any] = {}

    async def cut(self, node: Node) -> None:
        bus: Any = node.bus
        self._doors[bus.node], bus._door = bus._door, _Nowhere()
        bus._link.end("cut")
        await until(lambda: not bus.available)

    async def mend(self, node: Node) -> None:
        bus: Any = node.bus
        bus._door = self._doors.pop(bus.node)
        await until(lambda: bus.available)

    def drop(self, node: Node, events: int) -> None:
        """See `Faults`. Each event must have been published in a turn of its own, since its metadata is lost with it."""
        bus: Any = node.bus
        subscriber, arrived = bus._link.subscriber, bus._link.subscriber._arrived

        def dropping(channel: bytes, payload: bytes) -> None:
            nonlocal events
            if events and channel.startswith((bus._channels.events, bus._channels.metadata)):
                events -= channel.startswith(bus._channels.events)
            else:
                arrived(channel, payload)

        subscriber._arrived = dropping
