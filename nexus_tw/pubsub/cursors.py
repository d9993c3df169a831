"""Cursors: the position of each event type up to which this node has delivered events.

Every event with a position passes the cursor of its type: the next one is delivered, an older one dropped. If one is missing,
or another epoch has begun, the node reads the history and delivers the missed events to all subscribers on this node, in order,
then the events that arrived meanwhile; if events are gone from the history, `continuity` reports the gap. Publishers never wait
for any of this.

There is one cursor for each type that has subscribers on this node and had an event or has a known position; beyond a bound,
the least recently used one is dropped. Events without a position pass at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from functools import partial
from math import inf
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.bus.bounds import Bounds
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import NOWHERE, Position
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.reading import NO_EPOCH, Past, Reads, likest
from nexus_tw.pubsub.recorders import BYTES, COST, Recorders
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread

MOST: Final = 32768  # cursors of a realm on this node
STEP: Final = 16  # events of the history that are delivered in one step
AGAIN: Final = 0.25  # seconds until a failed read of the history is retried
TRIES: Final = 6  # failed reads after which the gap is reported
LIVE_ONLY: Final = 4096  # types without history that are kept
LOOKS: Final = 64  # cursors inspected to find one to drop

_guarded: Final = Guard(__name__, "What waited for a gap to be filled could not go on")

Live = tuple[bytes, bytes, Position | None] | Event


class Sink(Protocol):
    """Receives the events that the cursors let pass, in order."""

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None: ...

    def carried(self, event: Event) -> None: ...

    def gap(self, event_type: str, position: Position | None = None) -> None:
        """Report that events of this type are missing here; `position` is the place after which events continue."""

    def complete(self, event_type: str, position: Position, filtered: bool = False) -> None:
        """Report that no event is missing up to this position; with `filtered`, only to subscribers that may not have received
        the last events because of their filters."""


class Cursor:
    """The position of this node in the history of one type."""

    __slots__ = (
        "buffer",
        "covered",
        "due",
        "epoch",
        "event_type",
        "filling",
        "forgot",
        "left",
        "lost",
        "mark",
        "offset",
        "size",
        "tries",
        "used",
        "waiters",
    )

    def __init__(self, event_type: str, position: Position) -> None:
        self.event_type = event_type
        self.epoch, self.offset = position
        self.used = True
        # The next position for subscribers with filters is due at this offset, after so many bytes, or at that time.
        self.mark = inf
        self.left = inf
        self.due = inf
        # A gap that is being filled, and the events that arrived meanwhile: `covered` of them before the read was requested.
        self.filling = False
        self.buffer: deque[Live] = deque()
        self.size = 0
        self.covered = 0
        self.forgot = False  # events were dropped for lack of room
        self.tries = 0
        self.lost: Position | None = None  # the last position up to which a gap was reported
        self.waiters: list[Callable[[], None]] = []

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.offset)

    def follows(self, position: Position | None) -> bool:
        """Return whether an event at this position is the next one to deliver."""
        return (
            position is not None
            and position.offset == self.offset + 1
            and position.epoch == self.epoch
            and not self.filling
        )

    @property
    def known(self) -> bool:
        """Return whether the position is one of the type's own; its beginning may be named by another type's epoch."""
        return not self.filling or self.offset > 0

    def move(self, position: Position) -> None:
        self.epoch, self.offset = position


class Cursors:
    """All cursors of a realm on this node. Implements `event` of `nexus_tw.interfaces.plugins.BusListener`."""

    def __init__(
        self,
        bus: IBus,
        hub: Hub,
        reads: Reads,
        recorders: Recorders,
        spread: Spread,
        clock: IReactorTime,
        bounds: Bounds,
        metrics: Metrics,
        most: int = MOST,
        room: int = BYTES,
    ) -> None:
        """`bounds` has the bounds of each type's history, from which it follows how often subscribers with filters get
        positions."""
        self._bus = bus
        self._hub = hub
        self._reads = reads
        self._recorders = recorders
        self._spread = spread
        self._clock = clock
        self._now = clock.seconds
        self._bounds = bounds
        self._metrics = metrics
        self._most = most
        self._room = room
        self._cursors: dict[str, Cursor] = {}
        self._sink: Sink | None = None
        self._stalled: dict[Cursor, None] = {}  # cursors whose read failed
        self._retry: IDelayedCall | None = None
        self.whole = True  # no cursor was dropped since this was set
        self.live_only: set[str] = set()  # types without history whose events were delivered
        # Epochs known before an outage, while it is unknown which types had their first event during it: types without a cursor
        # are then read from their beginning. Otherwise None.
        self.witnesses: Collection[str] | None = None
        self.unplaced: set[str] = set()  # patterns subscribed to while no positions were available

    def start(self, sink: Sink) -> None:
        """Deliver to this sink from now on."""
        self._sink = sink

    def stop(self) -> None:
        """Stop delivering."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.clear()

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None:
        """Receive an event from the bus."""
        self._metrics.events_received += 1
        cursor = self._cursors.get(event_type)
        if cursor is not None and cursor.follows(position):
            cursor.offset += 1
            self._hand(event_type, data, metadata, position)
            self._moved(cursor, len(data))
        elif self._admits(cursor, event_type, position, (data, metadata, position)):
            self._hand(event_type, data, metadata, position)

    def carried(self, event: Event) -> None:
        """Receive an event that was published in this process."""
        self._metrics.events_received += 1
        cursor = self._cursors.get(event.type)
        if cursor is not None and cursor.follows(event.position):
            cursor.offset += 1
            self._hand_carried(event)
            self._moved(cursor, len(event.payload.data))
        elif self._admits(cursor, event.type, event.position, event):
            self._hand_carried(event)

    def _admits(self, cursor: Cursor | None, event_type: str, position: Position | None, live: Live) -> bool:
        """Return whether to deliver an event now that is not the next of its type."""
        if cursor is None:
            return self._begins(event_type, position, live)
        if cursor.filling:
            if position is None or position.epoch != cursor.epoch or position.offset > cursor.offset:
                self._keep(cursor, live)
            return False
        if position is None:
            return True
        if position.epoch != cursor.epoch or position.offset > cursor.offset:
            self._keep(cursor, live)
            self._fill(cursor)
        return False

    def _begins(self, event_type: str, position: Position | None, live: Live) -> bool:
        """Return whether to deliver the first event of a type that has no cursor."""
        wanted = self._hub.wanted(event_type)
        if position is None:
            if wanted and event_type not in self.live_only and len(self.live_only) <= LIVE_ONLY:
                self.live_only.add(event_type)
        elif wanted and (self.witnesses is not None or (self.whole and position.offset > 1)):
            # Its first events were missed: types that existed at the time of the subscription have a cursor.
            cursor = self.place(event_type, Position(self.beginning(position.epoch), 0))
            self._keep(cursor, live)
            self._fill(cursor)
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
        self._renew(cursor)
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
            self._fill(cursor)
        else:
            cursor = self.place(event_type, top)
            self.tell_gap(event_type, top)
        return cursor

    def fill(self, cursor: Cursor, done: Callable[[], None] | None = None) -> None:
        """Deliver the events of the history after this cursor, or report that they are gone; then call `done`, also if the
        cursor is dropped."""
        if self._cursors.get(cursor.event_type) is not cursor:
            if done is not None:
                done()
            return
        if done is not None:
            cursor.waiters.append(done)
        if not cursor.filling:
            self._fill(cursor)

    def advance(self, cursor: Cursor, past: Past) -> None:
        """Deliver events that were read from a position at or before this cursor, in its own epoch."""
        for stored in past.stored(cursor.offset):
            cursor.offset = stored.offset
            self._hand(cursor.event_type, stored.data, stored.metadata, cursor.position)

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
        """Report to the subscribers on this node that events of this type were lost before they got a position."""
        cursor = self._cursors.get(event_type)
        self.tell_gap(event_type, None if cursor is None else cursor.position)

    def tell_gap(self, event_type: str, position: Position | None) -> None:
        """Report that events of this type are missing up to this position."""
        assert self._sink is not None
        self._metrics.gaps_told += 1
        if self._recorders:
            self._recorders.gap(event_type, position)
        self._sink.gap(event_type, position)

    def tell_complete(self, cursor: Cursor) -> None:
        """Report to all subscribers of the type that no event is missing up to here, unless a gap up to here was reported."""
        assert self._sink is not None
        if cursor.position == cursor.lost:
            return
        self._sink.complete(cursor.event_type, cursor.position)
        self._renew(cursor)

    def lost(self) -> None:
        """The bus is away: what arrived during a gap may be gone from the history that it has when it comes back."""
        for cursor in self:
            if cursor.buffer:
                self._forget_buffer(cursor)

    def resume(self) -> None:
        """Retry failed reads: the bus is reachable again."""
        stalled, self._stalled = self._stalled, {}
        for cursor in stalled:
            self._ask(cursor)

    # ---

    def _hand(self, event_type: str, data: bytes, metadata: bytes, position: Position | None) -> None:
        if self._recorders:
            self._recorders.event(event_type, data, metadata, position)
        self._sink.event(event_type, data, metadata, position)  # type: ignore[union-attr]

    def _hand_carried(self, event: Event) -> None:
        if self._recorders:
            self._recorders.carried(event)
        self._sink.carried(event)  # type: ignore[union-attr]

    def _hand_live(self, event_type: str, live: Live) -> None:
        if isinstance(live, Event):
            self._hand_carried(live)
        else:
            self._hand(event_type, *live)

    def _moved(self, cursor: Cursor, size: int) -> None:
        """Note that an event of this size was delivered."""
        cursor.used = True
        cursor.left -= size
        if cursor.offset >= cursor.mark or cursor.left < 0 or self._now() >= cursor.due:
            self._tell_place(cursor)

    def _tell_place(self, cursor: Cursor) -> None:
        self._renew(cursor)
        assert self._sink is not None
        self._sink.complete(cursor.event_type, cursor.position, filtered=True)

    def _renew(self, cursor: Cursor) -> None:
        """Schedule the next position for subscribers with filters: after a quarter of the history's length."""
        bound = self._bounds.of(cursor.event_type)
        if bound is not None:
            cursor.mark = cursor.offset + max(1, bound.count // 4)
            cursor.left = bound.bytes / 4
            cursor.due = self._now() + bound.age / 4

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
        self._drop(cursor)
        self.whole = False
        if cursor.filling:
            self.tell_gap(cursor.event_type, None)

    def _drop(self, cursor: Cursor) -> None:
        del self._cursors[cursor.event_type]
        self._metrics.cursors -= 1
        self._stalled.pop(cursor, None)
        self._empty(cursor)
        self._woken(cursor)

    def _empty(self, cursor: Cursor) -> None:
        self._metrics.recovery_buffered -= cursor.size
        cursor.buffer.clear()
        cursor.size = cursor.covered = 0

    def _woken(self, cursor: Cursor) -> None:
        waiters, cursor.waiters = cursor.waiters, []
        for waiter in waiters:
            _guarded(waiter)

    # --- gaps

    def _keep(self, cursor: Cursor, live: Live) -> None:
        """Queue this event until the gap is filled. If there is no room, the history is read once more after that."""
        if cursor.forgot:
            if _position(live) is None:
                self.tell_gap(cursor.event_type, cursor.position)
            return
        size = _size(live)
        if self._metrics.recovery_buffered + size > self._room:
            self._metrics.recovery_overflows += 1
            cursor.buffer.append(live)
            self._forget_buffer(cursor)
            return
        cursor.buffer.append(live)
        cursor.size += size
        self._metrics.recovery_buffered += size

    def _forget_buffer(self, cursor: Cursor) -> None:
        """Have the history read once more instead of what arrived during a gap."""
        lost = any(_position(live) is None for live in cursor.buffer)
        self._empty(cursor)
        cursor.forgot = True
        if lost:  # what has no position is in no history
            self.tell_gap(cursor.event_type, cursor.position)

    def _take(self, cursor: Cursor) -> Live:
        live = cursor.buffer.popleft()
        size = _size(live)
        cursor.size -= size
        self._metrics.recovery_buffered -= size
        cursor.covered -= cursor.covered > 0
        return live

    def _fill(self, cursor: Cursor) -> None:
        cursor.filling = True
        cursor.tries = 0
        self._ask(cursor)

    def _ask(self, cursor: Cursor) -> None:
        cursor.covered = len(cursor.buffer)
        cursor.forgot = False
        self._reads.ask(cursor.event_type, cursor.position, partial(self._read, cursor))

    def _read(self, cursor: Cursor, past: Past | NexusError) -> None:
        if self._cursors.get(cursor.event_type) is not cursor:
            return
        if isinstance(past, NexusError):
            self._unread(cursor)
        else:
            self._spread.work(self._filled(cursor, past))

    def _unread(self, cursor: Cursor) -> None:
        """Retry after a failed read, once the bus is reachable."""
        cursor.tries += self._bus.available
        if cursor.tries >= TRIES:
            name = cursor.event_type
            self._drop(cursor)
            self.tell_gap(name, None)
            return
        self._stalled[cursor] = None
        if self._bus.available and self._retry is None:
            self._retry = self._clock.callLater(AGAIN, self._again)

    def _again(self) -> None:
        self._retry = None
        if self._bus.available:
            self.resume()

    def _filled(self, cursor: Cursor, past: Past) -> Iterator[None]:
        """Deliver the missed events, then those that arrived meanwhile."""
        name = cursor.event_type
        if past.top == NOWHERE:
            self._drop(cursor)
            self.tell_gap(name, None)
            return
        if past.recovered:
            self._metrics.gaps_filled += 1
            renewed = past.top.epoch != cursor.epoch
            for count, stored in enumerate(past.stored(cursor.offset), 1):
                if stored.offset <= cursor.offset:
                    continue  # a recovering subscriber's read has delivered it meanwhile
                cursor.move(Position(past.top.epoch, stored.offset))
                self._metrics.events_filled += 1
                self._hand(name, stored.data, stored.metadata, cursor.position)
                if not count % STEP:
                    yield
                    if self._cursors.get(name) is not cursor:
                        return
            if renewed or past.top.offset > cursor.offset:
                cursor.move(past.top)
            if renewed:
                self.tell_complete(cursor)
        elif not cursor.offset and cursor.epoch != past.top.epoch and past.top.offset:
            # Nobody here has seen any event of it: what the new epoch has is delivered behind the gap.
            cursor.move(Position(past.top.epoch, 0))
            cursor.lost = cursor.position
            self.tell_gap(name, cursor.position)
            self._ask(cursor)
            return
        else:
            cursor.move(self._after_gap(cursor, past.top))
            cursor.lost = cursor.position
            self._renew(cursor)
            self.tell_gap(name, cursor.position)
        count = 0
        while self._has_more(cursor):
            count += 1
            if not count % STEP:
                yield
                if self._cursors.get(name) is not cursor:
                    return
            covered = cursor.covered > 0
            live = self._take(cursor)
            position = _position(live)
            if position is None:
                self._hand_live(name, live)
            elif position.epoch == cursor.epoch and position.offset <= cursor.offset + 1:
                if position.offset > cursor.offset:
                    cursor.offset += 1
                    self._hand_live(name, live)
            elif position.epoch == cursor.epoch or not covered:
                self._put_back(cursor, live)
                self._ask(cursor)
                return
        if cursor.forgot:
            self._ask(cursor)
            return
        cursor.filling = False
        self._woken(cursor)

    @staticmethod
    def _has_more(cursor: Cursor) -> bool:
        return len(cursor.buffer) > 0 and not cursor.forgot

    def _put_back(self, cursor: Cursor, live: Live) -> None:
        size = _size(live)
        cursor.buffer.appendleft(live)
        cursor.size += size
        self._metrics.recovery_buffered += size

    def _after_gap(self, cursor: Cursor, top: Position) -> Position:
        """Return where to go on behind a gap: before an unbroken run of live events in hand that leads to `top`, else there."""
        first: Position | None = None
        for position in map(_position, reversed(cursor.buffer)):
            if position is None:
                continue
            if position.epoch != top.epoch:
                break
            if position.offset < top.offset if first is None else position.offset != first.offset - 1:
                break
            first = position
        return top if first is None else Position(first.epoch, first.offset - 1)


def _position(live: Live) -> Position | None:
    return live.position if isinstance(live, Event) else live[2]


def _size(live: Live) -> int:
    return COST + (len(live.payload.data) if isinstance(live, Event) else len(live[0]) + len(live[1]))
