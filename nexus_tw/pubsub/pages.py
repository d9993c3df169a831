"""Pages of history: past events of one type, for readers without a subscription (HTTP, WAMP's event history)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from nexus_tw.interfaces.peers import Fail
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.interfaces.realm import HistoryPage, HistoryRequest, PastEvent
from nexus_tw.model.errors import HISTORY_UNAVAILABLE, NexusError
from nexus_tw.model.events import Event, Recipient
from nexus_tw.model.names import check_name
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import NOWHERE, Missed, Position, Stored

BATCH: Final = 64  # events read at once, at least: not all of them may be for the reader


class Pages:
    """Reads the history of the bus."""

    def __init__(self, bus: IBus) -> None:
        self._bus = bus

    def read(
        self,
        reader: Recipient,
        rights: Principal,
        request: HistoryRequest,
        ok: Callable[[HistoryPage], None],
        fail: Fail,
    ) -> None:
        """Read a page. `rights` must cover a subscription to the type. Events whose rule does not admit the reader, and events
        that cannot be decoded, are left out."""
        try:
            check_name(request.event_type, "eventType")
            rights.require("subscribe", request.event_type)
            _Reading(self._bus, reader, request, ok, fail).begin()
        except NexusError as error:
            fail(error)


class _Reading:
    """A page on its way to its reader."""

    def __init__(
        self, bus: IBus, reader: Recipient, request: HistoryRequest, ok: Callable[[HistoryPage], None], fail: Fail
    ) -> None:
        self._bus = bus
        self._reader = reader
        self._request = request
        self._ok = ok
        self._fail = fail
        self._events: list[PastEvent] = []

    def begin(self) -> None:
        self._ask(self._request.since)

    def _ask(self, since: Position | None) -> None:
        history = self._bus.history
        if history is None:
            self._fail(self._unavailable())
        else:
            wanted = max(BATCH, self._request.limit - len(self._events))
            history.page(self._request.event_type, since, wanted, partial(self._read, since, wanted))

    def _read(self, since: Position | None, wanted: int, missed: Missed | NexusError) -> None:
        if isinstance(missed, NexusError):
            self._fail(missed)
        elif missed.top == NOWHERE:
            self._fail(self._unavailable())
        elif not missed.recovered:
            self._ok(HistoryPage((), missed.top, False))
        else:
            end = self._take(missed)
            if end is not None:
                self._ok(HistoryPage(self._events, end, True))
            elif len(missed.events) < wanted:
                self._ok(HistoryPage(self._events, missed.top, True))
            else:
                self._ask(Position(missed.top.epoch, missed.events[-1].offset))

    def _take(self, missed: Missed) -> Position | None:
        """Add the events that the reader may receive. Return the end of the page once it is full."""
        for stored in missed.events:
            position = Position(missed.top.epoch, stored.offset)
            event = self._admitted(stored, position)
            if event is not None:
                self._events.append(PastEvent(event, stored.millis))
                if len(self._events) == self._request.limit:
                    return position
        return None

    def _admitted(self, stored: Stored, position: Position) -> Event | None:
        event = Event.arrived(self._request.event_type, stored.data, stored.metadata, position)
        if event is None or event.metadata is None:
            return event
        if event.metadata.options is not None and not self._request.opens:
            return None
        rule = event.metadata.rule
        return event if rule is None or rule.admits(self._reader) else None

    def _unavailable(self) -> NexusError:
        return HISTORY_UNAVAILABLE.error(f"No history of {self._request.event_type} is kept")
