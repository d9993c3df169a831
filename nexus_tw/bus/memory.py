"""The bus inside one process: a published event comes back in the next reactor turn, as it would over a network.

One `MemoryBroker` defines the order; any number of nodes of the same process can share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from nexus_tw.bus.history import History
from nexus_tw.bus.ledger import Ledger, MemoryLedger
from nexus_tw.bus.memory_attendance import MemoryAttendance
from nexus_tw.bus.memory_claims import Claims, MemoryClaims
from nexus_tw.bus.memory_history import MemoryHistory, away
from nexus_tw.bus.memory_roll import MemoryRoll, Roll
from nexus_tw.bus.retained import MemoryRetained, Retained
from nexus_tw.interfaces.carriers import EventListener, ICarrier
from nexus_tw.interfaces.ledger import ILedger
from nexus_tw.interfaces.plugins import BusListener, IAttendance, IBus, IClaims, IHistory, IRetained, IRoll, RetainedEvent
from nexus_tw.model.attendance import STATUS, Attendance, Told
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event, EventMetadata, account_retaining, encode_metadata
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, some
from nexus_tw.model.payloads import Payload
from nexus_tw.model.positions import Position
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.walltime import wall

DECODED: Final = 1 << 20  # bytes of events in a turn whose decoded values are kept, each of which may be many times larger
SWEEP: Final = 1.0  # s from one look for types whose events are past their age to the next, at least

_guarded: Final = Guard(__name__, "What came over the bus could not be handled")


class MemoryBroker:
    """Carries the events and messages of its nodes, in one order for all of them.

    Everything accepted within a turn is delivered together in the next one. Nothing is queued longer, so the queue is bounded
    by the input of one turn.

    Events age by `monotonic`, which cannot be set: the reactor's clock is the wall clock, and a step of it would drop events
    early or late. A step back only delays the release of memory. While the system sleeps, events do not age.
    """

    def __init__(
        self,
        clock: IReactorTime,
        history: History | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        retained: Retained | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Without `history` no events are kept, without `retained` none is retained, without `ledger` no commands are kept."""
        self.roll = Roll()
        self._ledger = ledger
        if ledger is not None:
            ledger.heed(self.roll.buried)
        self.attendance = Attendance(self._status, lambda: wall(clock), self.roll.buried)
        self.claims = Claims()
        self._retained = retained
        self._clock = clock
        self._history = history
        self._monotonic = monotonic
        self._nodes: dict[str, MemoryBus] = {}
        self._batch: list[
            tuple[str, bytes | Payload, Any, Position | None] | tuple[None, bytes, tuple[MemoryBus, ...], None]
        ] = []  # metadata is bytes beside bytes, and as it was given beside a payload
        self._decoded = 0  # bytes of the events in the batch that were decoded
        self._turn: IDelayedCall | None = None
        # When the turn began.
        self._millis = 0
        self._now = 0.0
        self._sweep: IDelayedCall | None = None

    def history_for(self, bus: MemoryBus) -> IHistory | None:
        if self._history is None:
            return None
        return MemoryHistory(self._history, self._clock, self._monotonic, lambda: bus.available)

    def retained_for(self, bus: MemoryBus) -> IRetained | None:
        return None if self._retained is None else MemoryRetained(self._retained, lambda: bus.available)

    def attendance_for(self, bus: MemoryBus) -> IAttendance:
        return MemoryAttendance(self.attendance, lambda: bus.available, lambda: self.roll.epoch)

    def _status(self, told: Told) -> None:
        self.event(STATUS, told.data, b"")

    def roll_for(self, bus: MemoryBus) -> IRoll:
        return MemoryRoll(self.roll, lambda: bus.available)

    def ledger_for(self, bus: MemoryBus) -> ILedger | None:
        return None if self._ledger is None else MemoryLedger(self._ledger, lambda: bus.available)

    def claims_for(self, bus: MemoryBus) -> IClaims:
        return MemoryClaims(self.claims, lambda: bus.available)

    def join(self, bus: MemoryBus) -> None:
        self._nodes[bus.node] = bus

    def leave(self, bus: MemoryBus) -> None:
        """Stop deliveries to that node, after those of everything accepted before."""
        self._deliver()
        self._nodes.pop(bus.node, None)
        if not self._nodes and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def event(self, event_type: str, data: bytes, metadata: bytes) -> Position | None:
        """Accept an event. Return its position; None if the type has no history."""
        if self._turn is None:
            self._wake()
        history = self._history
        position = None if history is None else history.append(event_type, data, metadata, self._millis, self._now)
        if metadata and position is not None:
            self._retain(event_type, data, metadata, position)
        self._batch.append((event_type, data, metadata, position))
        return position

    def carry(self, event_type: str, payload: Payload, metadata: EventMetadata | None) -> Position | None:
        """Accept an event as an object. Return its position; None if the type has no history."""
        if self._turn is None:
            self._wake()
        history = self._history
        position = None
        if history is not None:
            described = b"" if metadata is None else encode_metadata(metadata)
            position = history.append(event_type, payload.data, described, self._millis, self._now)
        self._decoded += payload.decoded
        if self._decoded > DECODED:
            payload.forget()
        if metadata is not None and position is not None:
            self._retain(event_type, payload, metadata, position)
        self._batch.append((event_type, payload, metadata, position))
        return position

    def message(self, node: str | None, body: bytes) -> int:
        """Accept a message for one node, or with None for all. Return the number of recipients."""
        nodes = tuple(bus for name, bus in self._nodes.items() if node in (None, name))
        self._batch.append((None, body, nodes, None))
        if self._turn is None:
            self._wake()
        return len(nodes)

    def _wake(self) -> None:
        self._turn = self._clock.callLater(0, self._deliver)
        if self._history is not None:
            self._millis = int(wall(self._clock) * 1000)
            self._now = self._monotonic()

    def _deliver(self) -> None:
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        self._turn = None
        batch, self._batch = self._batch, []
        self._decoded = 0
        for item in batch:
            if item[0] is None:
                for bus in item[2]:
                    bus.message(item[1])
            else:
                event_type, data, metadata, position = item
                if position is None and metadata:
                    self._retain(event_type, data, metadata, None)
                for bus in list(self._nodes.values()):
                    if isinstance(data, bytes):
                        bus.event(event_type, data, metadata, position)
                    else:
                        bus.carried(event_type, data, metadata, position)
        if self._history is not None and self._sweep is None and self._nodes:
            self._expire(self._history)

    def _retain(self, event_type: str, data: bytes | Payload, metadata: Any, position: Position | None) -> None:
        """Retain the event if its publisher asked for that: when it gets its position, as its subscribers begin behind that. An
        event without position is retained when it is delivered, as those who subscribe before get it live."""
        retained = self._retained
        if retained is None:
            return
        if isinstance(data, bytes):
            account = account_retaining(metadata)
            if account is not None:
                retained.keep(RetainedEvent(event_type, data, metadata, position), account)
        elif metadata.retain is not None:
            retained.keep(RetainedEvent(event_type, data.data, encode_metadata(metadata), position), metadata.retain)

    def _expire(self, history: History) -> None:
        now = self._monotonic()
        due = history.expire(now)
        self._sweep = None if due is None else self._clock.callLater(max(SWEEP, due - now), self._expire, history)


@implementer(IBus, ICarrier)
class MemoryBus:
    """A node on a `MemoryBroker`; unavailable only before its start and after its stop.

    An event counts as accepted when `publish` is called: `done` is called before it returns, and the event follows.
    """

    def __init__(self, broker: MemoryBroker, node: str) -> None:
        self.node = node
        self.available = False
        self.history = broker.history_for(self)
        self.retained = broker.retained_for(self)
        self.roll = broker.roll_for(self)
        self.ledger = broker.ledger_for(self)
        self.attendance = broker.attendance_for(self)
        self.claims: IClaims | None = broker.claims_for(self)
        self._broker = broker
        self._wanted: PatternIndex[Pattern] = PatternIndex(some)
        self._listener: BusListener | None = None
        self._events: EventListener | None = None

    def start(self, listener: BusListener) -> Deferred[None]:
        self._listener = listener
        self._events = listener if isinstance(listener, EventListener) else None
        self._broker.join(self)
        self.available = True
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.available = False
        self._broker.leave(self)
        self._listener = self._events = None
        return succeed(None)

    def publish(
        self,
        event_type: str,
        data: bytes,
        done: Callable[[Position | NexusError | None], None],
        metadata: bytes = b"",
    ) -> None:
        done(self._broker.event(event_type, data, metadata) if self.available else away())

    def carry(
        self,
        event_type: str,
        payload: Payload,
        metadata: EventMetadata | None,
        done: Callable[[Position | NexusError | None], None],
    ) -> None:
        done(self._broker.carry(event_type, payload, metadata) if self.available else away())

    def subscribe(self, pattern: Pattern, done: Callable[[], None]) -> None:
        self._wanted.put(pattern, pattern)
        done()

    def unsubscribe(self, pattern: Pattern) -> None:
        self._wanted.drop(pattern)

    def send(self, node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
        done(self._broker.message(node, body) if self.available else away())

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None) -> None:
        """An event from the broker."""
        if self._listener is not None and self._wanted.any(event_type):
            _guarded(self._listener.event, event_type, data, metadata, position)

    def carried(
        self, event_type: str, payload: Payload, metadata: EventMetadata | None, position: Position | None
    ) -> None:
        """An event from the broker, as an object."""
        if self._events is None:
            self.event(event_type, payload.data, b"" if metadata is None else encode_metadata(metadata), position)
        elif self._wanted.any(event_type):
            _guarded(self._events.carried, Event(event_type, payload, metadata, position))

    def message(self, body: bytes) -> None:
        """A message from the broker."""
        if self._listener is not None:
            _guarded(self._listener.message, body)
