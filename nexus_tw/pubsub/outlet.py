"""The outlet: passes the events that the cursors let pass, and reports of gaps, to recorders and subscribers in one order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from nexus_tw.bus.bounds import Bounds
from nexus_tw.model.events import Event
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.cursor import Cursor, Live
from nexus_tw.pubsub.recorders import Recorders


class Sink(Protocol):
    """Receives the events that the cursors let pass, in order."""

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None: ...

    def carried(self, event: Event) -> None: ...

    def gap(self, event_type: str, position: Position | None = None) -> None:
        """Report that events of this type are missing here; `position` is the place after which events continue."""

    def complete(self, event_type: str, position: Position, filtered: bool = False) -> None:
        """Report that no event is missing up to this position; with `filtered`, only to subscribers that may not have received
        the last events because of their filters."""


class Outlet:
    """Passes everything to the recorders and to the sink."""

    def __init__(
        self, sink: Sink, recorders: Recorders, bounds: Bounds, now: Callable[[], float], metrics: Metrics
    ) -> None:
        """`bounds` has the bounds of each type's history, from which it follows how often subscribers with filters get
        positions."""
        self._recorders = recorders
        self._bounds = bounds
        self._now = now
        self._metrics = metrics
        self._sink = sink

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None) -> None:
        if self._recorders:
            self._recorders.event(event_type, data, metadata, position)
        self._sink.event(event_type, data, metadata, position)

    def carried(self, event: Event) -> None:
        if self._recorders:
            self._recorders.carried(event)
        self._sink.carried(event)

    def live(self, event_type: str, live: Live) -> None:
        """Deliver an event that was buffered."""
        if isinstance(live, Event):
            self.carried(live)
        else:
            self.event(event_type, *live)

    def moved(self, cursor: Cursor, size: int) -> None:
        """Note that an event of this size was delivered."""
        cursor.used = True
        cursor.left -= size
        if cursor.offset >= cursor.mark or cursor.left < 0 or self._now() >= cursor.due:
            self.renew(cursor)
            self._sink.complete(cursor.event_type, cursor.position, filtered=True)

    def renew(self, cursor: Cursor) -> None:
        """Schedule the next position for subscribers with filters: after a quarter of the history's length."""
        bound = self._bounds.of(cursor.event_type)
        if bound is not None:
            cursor.mark = cursor.offset + max(1, bound.count // 4)
            cursor.left = bound.bytes / 4
            cursor.due = self._now() + bound.age / 4

    def gap(self, event_type: str, position: Position | None) -> None:
        """Report that events of this type are missing up to this position."""
        self._metrics.gaps_told += 1
        if self._recorders:
            self._recorders.gap(event_type, position)
        self._sink.gap(event_type, position)

    def lost(self, cursor: Cursor, position: Position) -> None:
        """Move the cursor to this position, and report that events are missing up to there."""
        cursor.move(position)
        cursor.lost = position
        self.renew(cursor)
        self.gap(cursor.event_type, position)

    def complete(self, cursor: Cursor) -> None:
        """Report to all subscribers of the type that no event is missing up to here, unless a gap up to here was reported."""
        if cursor.position != cursor.lost:
            self._sink.complete(cursor.event_type, cursor.position)
            self.renew(cursor)
