"""The bus inside one process: a published event comes back in the next reactor turn, as it would over a network.

One `MemoryBroker` defines the order; any number of nodes of the same process can share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from nexus_tw.interfaces.plugins import BusListener, IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, some
from nexus_tw.runtime.guard import Guard

_guarded: Final = Guard(__name__, "What came over the bus could not be handled")


class MemoryBroker:
    """Carries the events and messages of its nodes, in one order for all of them.

    Everything accepted within a turn is delivered together in the next one. Nothing waits longer than that, so the queue is
    bounded by the input of one turn.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._nodes: dict[str, MemoryBus] = {}
        self._batch: list[tuple[str, bytes, bytes] | tuple[None, bytes, tuple[MemoryBus, ...]]] = []
        self._turn: IDelayedCall | None = None

    def join(self, bus: MemoryBus) -> None:
        self._nodes[bus.node] = bus

    def leave(self, bus: MemoryBus) -> None:
        """Stop deliveries to that node, after those of everything accepted before."""
        self._deliver()
        self._nodes.pop(bus.node, None)

    def event(self, event_type: str, data: bytes, metadata: bytes) -> None:
        self._batch.append((event_type, data, metadata))
        self._wake()

    def message(self, node: str | None, body: bytes) -> int:
        """Accept a message for one node, or with None for all. Return the number of recipients."""
        nodes = tuple(bus for name, bus in self._nodes.items() if node in (None, name))
        self._batch.append((None, body, nodes))
        self._wake()
        return len(nodes)

    def _wake(self) -> None:
        if self._turn is None:
            self._turn = self._clock.callLater(0, self._deliver)

    def _deliver(self) -> None:
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        self._turn = None
        batch, self._batch = self._batch, []
        for item in batch:
            if item[0] is None:
                for bus in item[2]:
                    bus.message(item[1])
            else:
                for bus in list(self._nodes.values()):
                    bus.event(item[0], item[1], item[2])


@implementer(IBus)
class MemoryBus:
    """A node on a `MemoryBroker`; unavailable only before its start and after its stop.

    An event counts as accepted when `publish` is called: `done` is called before it returns, and the event follows.
    """

    def __init__(self, broker: MemoryBroker, node: str) -> None:
        self.node = node
        self.available = False
        self._broker = broker
        self._wanted: PatternIndex[Pattern] = PatternIndex(some)
        self._listener: BusListener | None = None

    def start(self, listener: BusListener) -> Deferred[None]:
        self._listener = listener
        self._broker.join(self)
        self.available = True
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.available = False
        self._broker.leave(self)
        self._listener = None
        return succeed(None)

    def publish(
        self, event_type: str, data: bytes, done: Callable[[NexusError | None], None], metadata: bytes = b""
    ) -> None:
        if not self.available:
            done(_away())
            return
        self._broker.event(event_type, data, metadata)
        done(None)

    def subscribe(self, pattern: Pattern, done: Callable[[], None]) -> None:
        self._wanted.put(pattern, pattern)
        done()

    def unsubscribe(self, pattern: Pattern) -> None:
        self._wanted.drop(pattern)

    def send(self, node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
        done(self._broker.message(node, body) if self.available else _away())

    def event(self, event_type: str, data: bytes, metadata: bytes) -> None:
        """An event from the broker."""
        if self._listener is not None and self._wanted.any(event_type):
            _guarded(self._listener.event, event_type, data, metadata)

    def message(self, body: bytes) -> None:
        """A message from the broker."""
        if self._listener is not None:
            _guarded(self._listener.message, body)


def _away() -> NexusError:
    return NexusError("bus_unavailable", "The event bus is away")
