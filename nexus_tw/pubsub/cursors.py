"""Cursors: the position of each event type up to which this node has delivered events.

Every event with a position passes the cursor of its type: the next one is delivered, an older one dropped. If one is missing,
or another epoch has begun, the node reads the history and delivers the missed events to all subscribers on this node, in order,
then the events that arrived meanwhile; if events are gone from the history, `continuity` reports the gap. Publishers never wait
for any of this.

There is one cursor for each type that has subscribers on this node and had an event or has a known position; beyond a bound,
the least recently used one is dropped. Events without a position pass at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.bus.bounds import Bounds
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.events import Event
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.cursor import Cursor, Live
from nexus_tw.pubsub.filling import Filler
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.outlet import Outlet, Sink
from nexus_tw.pubsub.reading import NO_EPOCH, Past, Reads, likest
from nexus_tw.pubsub.recorders import Recorders
from nexus_tw.runtime.spread import Spread

MOST: Final = 32768  # cursors of a realm on this node
LIVE_ONLY: Final = 4096  # types without history that are kept
LOOKS: Final = 64  # cursors inspected to find one to drop


class Cursors:
    """All cursors of a realm on this node. Implements `event` of `nexus_tw.interfaces.plugins.BusListener`."""

    def __init__(
        self,
        bus: IBus,
        hub: Hub,
        sink: Sink,
        reads: Reads,
        recorders: Recorders,
        spread: Spread,
        clock: IReactorTime,
        bounds: Bounds,
        metrics: Metrics,
        most: int = MOST,
    ) -> None:
        """`sink` receives what passes; `bounds` has the bounds of each type's history, from which it follows how often
        subscribers with filters get positions."""
        self.outlet = Outlet(sink, recorders, bounds, clock.seconds, metrics)
        self.filler = Filler(bus, self.outlet, reads, spread, clock, metrics, self.drop)
        self._hub = hub
        self._recorders = recorders
        self._metrics = metrics
        self._most = most
        self._cursors: dict[str, Cursor] = {}
        self.whole = True  # no cursor was dropped since this was set
        self.live_only: set[str] = set()  # types without history whose events were delivered since the bus was away
        self.missing: set[str] = set()  # those before, of which no gap was reported yet
        # Epochs known before an outage, while it is unknown which types had their first event during it: types without a cursor
        # are then read from their beginning. Otherwise None.
        self.witnesses: Collection[str] | None = None
        self.unplaced: set[str] = set()  # patterns subscribed to while no positions were available

    def stop(self) -> None:
        """Stop delivering."""
        self.filler.stop()
        self.clear()

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None:
        """Receive an event from the bus."""
        self._metrics.events_received += 1
        cursor = self._cursors.get(event_type)
        if (
            cursor is not None
            and position is not None
            and position.offset == cursor.offset + 1
            and position.epoch == cursor.epoch
            and not cursor.filling
        ):
            cursor.offset += 1
            self.outlet.event(event_type, data, metadata, position)
            self.outlet.moved(cursor, len(data))
        elif position is None and cursor is None and event_type in self.live_only:
            self.outlet.event(event_type, data, metadata, None)
        elif self._admits(cursor, event_type, position, (data, metadata, position)):
            self.outlet.event(event_type, data, metadata, position)

    def carried(self, event: Event) -> None:
        """Receive an event that was published in this process."""
        self._metrics.events_received += 1
        event_type, position = event.type, event.position
        cursor = self._cursors.get(event_type)
        if (
            cursor is not None
            and position is not None
            and position.offset == cursor.offset + 1
            and position.epoch == cursor.epoch
            and not cursor.filling
        ):
            cursor.offset += 1
            self.outlet.carried(event)
            self.outlet.moved(cursor, len(event.payload.data))
        elif (cursor is None and position is None and event_type in self.live_only) or (
            self._admits(cursor, event_type, position, event)
        ):
            self.outlet.carried(event)

    def _admits(self, cursor: Cursor | None, event_type: str, position: Position | None, live: Live) -> bool:
        """Return whether to deliver an event now that is not the next of its type."""
        if cursor is None:
            return self._begins(event_type, position, live)
        if cursor.filling:
            if position is None or position.epoch != cursor.epoch or position.offset > cursor.offset:
                self.filler.keep(cursor, live)
            return False
        if position is None:
            return True
        if position.epoch != cursor.epoch or position.offset > cursor.offset:
            self.filler.keep(cursor, live)
        return False

    def _begins(self, event_type: str, position: Position | None, live: Live) -> bool:
        """Return whether to deliver the first event of a type that has no cursor."""
        wanted = self._hub.wanted(event_type)
        if position is None:
            if wanted and event_type in self.missing:  # the link is there again, and an event came before the reconciliation
                self.missing.discard(event_type)
                self.outlet.gap(event_type, None)
            if wanted and event_type not in self.live_only and len(self.live_only) <= LIVE_ONLY:
                self.live_only.add(event_type)
        elif wanted and (self.witnesses is not None or (self.whole and position.offset > 1)):
            # Its first events were missed: types that existed at the time of the subscription have a cursor.
            cursor = self.place(event_type, Position(self.beginning(position.epoch), 0))
            self.filler.keep(cursor, live)
            return False
        elif wanted or self._recorders.wants(event_type):
            self.place(event_type, position)
        return True

    # --- for those who subscribe, and after a lost link

    def get(self, event_type: str) -> Cursor | None:
        return self._cursors.get(event_type)

    def __iter__(self) -> Iterator[Cursor]:
        return iter(list(self._cursors.values()))

    def place(self, event_type: str, position: Position) -> Cursor:
        """Begin a cursor at this position, for a type that has none."""
        if len(self._cursors) >= self._most:
            self._forget_one()
        cursor = self._cursors[event_type] = Cursor(event_type, position)
        self._metrics.cursors += 1
        self.outlet.renew(cursor)
        return cursor

    def beginning(self, epoch: str) -> str:
        """Return the epoch from which to read the beginning of a type whose first events were missed; `epoch` is its own.
        Return `NO_EPOCH` if the type's cursor may have been dropped."""
        if not self.whole:
            return NO_EPOCH
        return epoch if self.witnesses is None else likest(self.witnesses, epoch)

    def place_at_top(self, event_type: str, top: Position) -> Cursor:
        """Begin a cursor for a type after its position was requested. Its existing subscribers, which have a matching pattern,
        have received none of its events: deliver them, or report the gap."""
        if not top.offset or not self._hub.wanted(event_type):
            return self.place(event_type, top)
        if self.whole and self.witnesses is None:
            cursor = self.place(event_type, Position(top.epoch, 0))
            self.filler.fill(cursor)
        else:
            cursor = self.place(event_type, top)
            self.outlet.gap(event_type, top)
        return cursor

    def advance(self, cursor: Cursor, past: Past) -> None:
        """Deliver events that were read from a position at or before this cursor, in its own epoch."""
        for stored in past.stored(cursor.offset):
            cursor.offset = stored.offset
            self.outlet.event(cursor.event_type, stored.data, stored.metadata, cursor.position)

    def unwanted(self, patterns: Collection[Pattern]) -> None:
        """The subscriptions of these patterns have ended on the bus."""
        self.unplaced.difference_update(pattern.text for pattern in patterns)
        self.tidy(patterns)

    def tidy(self, patterns: Collection[Pattern]) -> None:
        """Drop the cursors under these patterns that nothing keeps right any more."""
        if all(pattern.exact for pattern in patterns):
            types: Collection[str] = [pattern.text for pattern in patterns]
        else:
            types = [name for name in self._cursors if any(pattern.matches(name) for pattern in patterns)]
        for name in types:
            if name in self._cursors and not self._hub.wanted(name) and not self._recorders.wants(name):
                self._drop(self._cursors[name])

    def clear(self) -> None:
        """Drop all cursors."""
        for cursor in self:
            self._drop(cursor)

    def drop(self, cursor: Cursor) -> None:
        """Drop this cursor."""
        if self._cursors.get(cursor.event_type) is cursor:
            self._drop(cursor)

    def gap(self, event_type: str) -> None:
        """Report to the subscribers on this node that events of this type were lost before they got a position: once the type's
        own position is known, as nobody may be told another one."""
        cursor = self._cursors.get(event_type)
        if cursor is None or cursor.known:
            self.outlet.gap(event_type, None if cursor is None else cursor.position)
        else:
            self.filler.fill(cursor, partial(self.gap, event_type))

    def lost(self) -> None:
        """The bus is away: what arrived during a gap may be gone from the history that it has when it comes back."""
        for cursor in self:
            self.filler.forget(cursor)
        if len(self.missing) <= LIVE_ONLY:
            self.missing |= self.live_only
        self.live_only.clear()

    # ---

    def _forget_one(self) -> None:
        """Drop the first cursor that has not been used since its last inspection, in the order of these inspections."""
        for _ in range(LOOKS):
            name, cursor = next(iter(self._cursors.items()))
            if not cursor.used and not cursor.filling:
                break
            cursor.used = False
            del self._cursors[name]
            self._cursors[name] = cursor
        cursor = next(iter(self._cursors.values()))
        fills = cursor.filling is not None
        self.whole = False
        self._drop(cursor)
        if fills:
            self.outlet.gap(cursor.event_type, None)

    def _drop(self, cursor: Cursor) -> None:
        del self._cursors[cursor.event_type]
        self._metrics.cursors -= 1
        cursor.held = False
        self.filler.dropped(cursor)
