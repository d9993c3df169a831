"""Retained events, for those who subscribe (WAMP: event retention)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from nexus_tw.interfaces.plugins import IBus, IRetained, RetainedEvent
from nexus_tw.interfaces.realm import Placed
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event, Recipient
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.cursor import Cursor
from nexus_tw.pubsub.cursors import Cursors

TRIES: Final = 3  # questions for a type of which newer events come in the meantime; the last answer is taken as it is


def find_retained(
    bus: IBus, cursors: Cursors, reader: Recipient, pattern: Pattern, placed: Placed, done: Callable[[Sequence[Event]], None]
) -> None:
    """Call `done` with the retained events of the types that the pattern selects, for a reader whose subscription began there.

    Left out are events after that, which it gets live, those whose rule does not admit it, and those that cannot be decoded.
    While the bus is away there are none.
    """
    if bus.retained is None:
        done(())
        return
    search = _Search(bus.retained, cursors, placed.positions or {}, reader, done)
    search.ask(pattern, placed.positions or {}, TRIES)


class _Search:
    """The search for the retained events of one subscriber.

    A bus that answers later may have brought newer events of a type by then, one of which may be the retained one now. Such
    types are asked for again, so that the subscriber does not get an event that was replaced after the one that replaced it.
    """

    def __init__(
        self,
        retained: IRetained,
        cursors: Cursors,
        positions: Mapping[str, Position],
        reader: Recipient,
        done: Callable[[Sequence[Event]], None],
    ) -> None:
        self._retained = retained
        self._cursors = cursors
        self._positions = positions
        self._reader = reader
        self._done = done
        self._events: list[Event] = []
        self._left = 0  # outstanding answers

    def ask(self, pattern: Pattern, before: Mapping[str, Position], tries: int) -> None:
        """Ask for the events of these types; `before` says how far the node has delivered them."""
        self._left += 1
        self._retained.get(pattern, partial(self._found, before, tries))

    def _found(self, before: Mapping[str, Position], tries: int, found: list[RetainedEvent] | NexusError) -> None:
        again: list[Cursor] = []
        for each in () if isinstance(found, NexusError) else found:
            event = Event.arrived(*each)
            if event is None or _follows(event, self._positions) or not _admits(event, self._reader):
                continue
            cursor = self._cursors.get(event.type)
            if cursor is None or tries == 1 or before.get(event.type, cursor.position) == cursor.position:
                self._events.append(event)
            else:
                again.append(cursor)
        for cursor in again:
            self.ask(Pattern.parse(cursor.event_type), {cursor.event_type: cursor.position}, tries - 1)
        self._left -= 1
        if not self._left:
            self._done(self._events)


def _follows(event: Event, positions: Mapping[str, Position]) -> bool:
    """Return whether the event is after these positions."""
    begun = positions.get(event.type)
    if begun is None or event.position is None:
        return False
    return event.position.epoch == begun.epoch and event.position.offset > begun.offset


def _admits(event: Event, reader: Recipient) -> bool:
    rule = None if event.metadata is None else event.metadata.rule
    return rule is None or rule.admits(reader)
