"""Walks through the history of a type, for readers who do not subscribe: oldest event first, a batch in each reactor turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.peers import Fail
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.interfaces.realm import PastEvent
from nexus_tw.model.errors import HISTORY_UNAVAILABLE, NexusError
from nexus_tw.model.events import Event, Recipient
from nexus_tw.model.positions import NOWHERE, Missed, Position, Stored

BATCH: Final = 256  # events read at once


def unavailable(event_type: str) -> NexusError:
    """Return the error for a type without history."""
    return HISTORY_UNAVAILABLE.error(f"No history of {event_type} is kept")


class Walk:
    """A walk of one reader. Encrypted payloads, events whose rule does not admit the reader, and events that cannot be decoded
    are left out."""

    def __init__(
        self,
        bus: IBus,
        clock: IReactorTime,
        reader: Recipient,
        event_type: str,
        take: Callable[[PastEvent], bool],
        ended: Callable[[Position, bool], None],
        fail: Fail,
    ) -> None:
        """`take` gets the events and returns True to stop. Then `ended` gets the position of the last event seen, and False if
        events after the beginning were gone; or `fail` is called."""
        self._bus = bus
        self._clock = clock
        self._reader = reader
        self._event_type = event_type
        self._take = take
        self._ended = ended
        self._fail = fail

    def begin(self, since: Position | None) -> None:
        """Begin after this position; None: with the oldest event."""
        history = self._bus.history
        if history is None:
            self._fail(unavailable(self._event_type))
        else:
            history.page(self._event_type, since, BATCH, self._read)

    def _read(self, missed: Missed | NexusError) -> None:
        if isinstance(missed, NexusError):
            self._fail(missed)
            return
        if missed.top == NOWHERE:
            self._fail(unavailable(self._event_type))
            return
        if not missed.recovered:
            self._ended(missed.top, False)
            return
        for stored in missed.events:
            position = Position(missed.top.epoch, stored.offset)
            event = self._admitted(stored, position)
            try:
                stop = event is not None and self._take(PastEvent(event, stored.millis))
            except NexusError as error:
                self._fail(error)
                return
            if stop:
                self._ended(position, True)
                return
        if len(missed.events) < BATCH:
            self._ended(missed.top, True)
        else:
            self._clock.callLater(0, self.begin, Position(missed.top.epoch, missed.events[-1].offset))

    def _admitted(self, stored: Stored, position: Position) -> Event | None:
        event = Event.arrived(self._event_type, stored.data, stored.metadata, position)
        if event is None or event.metadata is None:
            return event
        rule = event.metadata.rule
        admitted = event.metadata.options is None and (rule is None or rule.admits(self._reader))
        return event if admitted else None
