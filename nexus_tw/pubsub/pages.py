"""Pages: past events of one type, as HTTP reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.peers import Fail
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.interfaces.realm import HistoryPage, HistoryRequest, PastEvent
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Recipient
from nexus_tw.model.names import check_name
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.walks import Walk

BYTES: Final = 4194304  # of the events of one answer, unless it has a single one


class Pages:
    """Reads the history of the bus."""

    def __init__(self, bus: IBus, clock: IReactorTime) -> None:
        self._bus = bus
        self._clock = clock

    def read(
        self,
        reader: Recipient,
        rights: Principal,
        request: HistoryRequest,
        ok: Callable[[HistoryPage], None],
        fail: Fail,
    ) -> None:
        """Read a page. `rights` must cover a subscription to the type. What `Walk` leaves out does not shorten the page."""
        found = Found(request.limit)

        def ended(position: Position, recovered: bool) -> None:
            # After a part of it was read the rest may be gone: what was read is whole up to there.
            if recovered or not found.events:
                ok(HistoryPage(found.events, position, recovered))
            else:
                last = found.events[-1].event.position
                assert last is not None
                ok(HistoryPage(found.events, last, True))

        try:
            check_name(request.event_type, "eventType")
            rights.require("subscribe", request.event_type)
        except NexusError as error:
            fail(error)
            return
        Walk(self._bus, self._clock, reader, request.event_type, found.take, ended, fail).begin(request.since)


class Found:
    """The events of an answer."""

    def __init__(self, limit: int) -> None:
        self.events: list[PastEvent] = []
        self._limit = limit
        self._size = 0

    def take(self, past: PastEvent) -> bool:
        """Take an event. Return True once there are enough. Raise `limit_exceeded` if there are too many bytes."""
        self._size += past.event.payload.size
        self.events.append(past)
        if self._size > BYTES and len(self.events) > 1:
            raise too_large()
        return len(self.events) >= self._limit


def too_large() -> NexusError:
    """Return the error for an answer with too many bytes."""
    return NexusError("limit_exceeded", f"limit: the events have more than {BYTES} bytes together; ask for fewer")
