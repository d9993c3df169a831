"""Publishing: sends events to the bus, those of clients after authorization, and the server's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from nexus_tw.interfaces.carriers import ICarrier
from nexus_tw.interfaces.peers import Fail
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.budgets import Shelf
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import EventMetadata, encode_metadata
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import check_name, is_reserved
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import Limits

OWN_TYPES: Final = 16  # event types of the server's own whose answers are remembered
OUTBOX_BYTES: Final = 67108864  # in addition to limits.outbox, which bounds the number of events


class Publications:
    """Sends the events published on this node to the bus."""

    def __init__(self, bus: IBus, limits: Limits, metrics: Metrics, tell_gap: Callable[[str], None]) -> None:
        """`tell_gap` makes every node tell its subscribers, once the bus accepts that, that events of a type were lost before
        they reached the bus."""
        self._tell_gap = tell_gap
        self._bus = bus
        self._carrier: Any = bus if ICarrier.providedBy(bus) else None
        self._metrics = metrics
        self._outbox: Shelf[int, tuple[str, bytes]] = Shelf(limits, "outbox", OUTBOX_BYTES)
        self._announced = 0
        self._sent: dict[str, Callable[[Position | NexusError | None], None]] = {}  # by event type

    def publish(
        self,
        principal: Principal,
        event_type: str,
        payload: Payload,
        ok: Callable[[Position | None], None],
        fail: Fail,
        metadata: EventMetadata | None = None,
    ) -> None:
        """Publish an event of a client; call `ok` once the bus has accepted it, else `fail`. `metadata` is for Nexus nodes."""
        try:
            self.check(principal, event_type)
        except NexusError as error:
            fail(error)
            return

        def done(taken: Position | NexusError | None) -> None:
            if isinstance(taken, NexusError):
                fail(taken)
            else:
                self._metrics.events_published += 1
                ok(taken)

        if self._carrier is not None:
            self._carrier.carry(event_type, payload.published(), metadata, done)
        else:
            self._bus.publish(event_type, payload.data, done, b"" if metadata is None else encode_metadata(metadata))

    def check(self, principal: Principal, event_type: str, member: str = "eventType") -> None:
        """Raise `NexusError`, naming `member`, if the event type is invalid or `principal` may not publish it."""
        check_free(event_type, member)
        principal.require("publish", event_type)

    def announce(self, event_type: str, data: bytes, account: str) -> None:
        """Publish an event of the server's own, caused by `account`. While the bus is unreachable it is queued in a bounded
        outbox, which evicts events of accounts that exceed their share first."""
        if self._bus.available and not self._outbox:
            self._send(event_type, data)
            return
        event = event_type, data
        self._announced += 1
        for lost_type, _ in self._outbox.put(self._announced, event, account, 1, len(data)):
            self._metrics.events_dropped["outbox"] += 1
            self.missed(lost_type)

    def missed(self, event_type: str) -> None:
        """Tell all subscribers that events of this type were lost before the bus; for events without acknowledgement."""
        self._tell_gap(event_type)

    def _send(self, event_type: str, data: bytes) -> None:
        self._bus.publish(event_type, data, self._sent.get(event_type) or self._answer_of(event_type))

    def _answer_of(self, event_type: str) -> Callable[[Position | NexusError | None], None]:
        """Return what the bus tells the outcome of the server's own events of this type. They have few types."""

        def done(taken: Position | NexusError | None) -> None:
            if isinstance(taken, NexusError):
                self._metrics.events_dropped["bus"] += 1
                self.missed(event_type)
            else:
                self._metrics.events_published += 1

        if len(self._sent) < OWN_TYPES:
            self._sent[event_type] = done
        return done

    def restored(self) -> None:
        """Send the events in the outbox: the bus is reachable again."""
        for event_type, data in self._outbox.clear():
            self._send(event_type, data)


def check_free(event_type: str, member: str) -> None:
    """Raise `NexusError`, naming `member`, for an event type that no client may publish, whatever its rights."""
    check_name(event_type, member)
    if is_reserved(event_type):
        raise NexusError("forbidden", f"Not allowed to publish {event_type}: the name is reserved")
