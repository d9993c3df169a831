"""Filling gaps: reads the events of a type that this node has missed from the history, and delivers them, then those that
arrived meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import NOWHERE, Position
from nexus_tw.pubsub.cursor import Cursor, Filling, Live, position_of, size_of
from nexus_tw.pubsub.outlet import Outlet
from nexus_tw.pubsub.reading import Past, Reads
from nexus_tw.pubsub.recorders import BYTES
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.spread import Spread

STEP: Final = 16  # events that are delivered in one step
AGAIN: Final = 0.25  # seconds until a failed read of the history is retried
TRIES: Final = 6  # failed reads after which the gap is reported

_guarded: Final = Guard(__name__, "What waited for a gap to be filled could not go on")


class Filler:
    """Fills the gaps after all cursors of a realm on this node."""

    def __init__(
        self,
        bus: IBus,
        outlet: Outlet,
        reads: Reads,
        spread: Spread,
        clock: IReactorTime,
        metrics: Metrics,
        drop: Callable[[Cursor], None],
        room: int = BYTES,
    ) -> None:
        """`drop` drops a cursor whose type has no history, or one that cannot be read."""
        self._bus = bus
        self._outlet = outlet
        self._reads = reads
        self._spread = spread
        self._clock = clock
        self._metrics = metrics
        self._drop = drop
        self._room = room
        self._stalled: dict[Cursor, None] = {}  # cursors whose read failed
        self._retry: IDelayedCall | None = None

    def stop(self) -> None:
        """Retry no more reads."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def fill(self, cursor: Cursor, done: Callable[[], None] | None = None) -> None:
        """Deliver the events of the history after this cursor, or report that they are gone; then call `done`, also if the
        cursor is dropped."""
        if not cursor.held:
            if done is not None:
                done()
            return
        filling = cursor.filling
        begins = filling is None
        if filling is None:
            filling = cursor.filling = Filling()
        if done is not None:
            filling.waiters.append(done)
        if begins:
            self._ask(cursor, filling)

    def keep(self, cursor: Cursor, live: Live) -> None:
        """Queue this event until the gap before it is filled. If there is no room, the history is read once more after that."""
        filling = cursor.filling
        if filling is None:
            filling = cursor.filling = Filling()
            self._queue(cursor, filling, live)
            self._ask(cursor, filling)
        else:
            self._queue(cursor, filling, live)

    def forget(self, cursor: Cursor) -> None:
        """Have the history read once more instead of what arrived during a gap."""
        filling = cursor.filling
        if filling is not None and filling.buffer:
            self._forget(cursor, filling)

    def resume(self) -> None:
        """Retry failed reads: the bus is reachable again."""
        stalled, self._stalled = self._stalled, {}
        for cursor in stalled:
            if cursor.filling is not None:
                self._ask(cursor, cursor.filling)

    def dropped(self, cursor: Cursor) -> None:
        """Release what is buffered for this cursor, which was dropped, and call those that wait for it."""
        self._stalled.pop(cursor, None)
        filling, cursor.filling = cursor.filling, None
        if filling is not None:
            self._empty(filling)
            _end(filling)

    # ---

    def _queue(self, cursor: Cursor, filling: Filling, live: Live) -> None:
        if filling.forgot:
            if position_of(live) is None:
                self._outlet.gap(cursor.event_type, cursor.position)
            return
        filling.buffer.append(live)
        size = size_of(live)
        if self._metrics.recovery_buffered + size > self._room:
            self._metrics.recovery_overflows += 1
            self._forget(cursor, filling)
        else:
            self._count(filling, size)

    def _forget(self, cursor: Cursor, filling: Filling) -> None:
        lost = any(position_of(live) is None for live in filling.buffer)
        self._empty(filling)
        filling.forgot = True
        if lost:  # what has no position is in no history
            self._outlet.gap(cursor.event_type, cursor.position)

    def _count(self, filling: Filling, size: int) -> None:
        filling.size += size
        self._metrics.recovery_buffered += size

    def _empty(self, filling: Filling) -> None:
        self._count(filling, -filling.size)
        filling.buffer.clear()
        filling.covered = 0

    def _ask(self, cursor: Cursor, filling: Filling) -> None:
        filling.covered = len(filling.buffer)
        filling.forgot = False
        self._reads.ask(cursor.event_type, cursor.position, partial(self._read, cursor, filling))

    def _read(self, cursor: Cursor, filling: Filling, past: Past | NexusError) -> None:
        if cursor.filling is not filling:
            return
        if isinstance(past, NexusError):
            self._unread(cursor, filling)
        else:
            self._spread.work(self._filled(cursor, filling, past))

    def _unread(self, cursor: Cursor, filling: Filling) -> None:
        """Retry after a failed read, once the bus is reachable."""
        filling.tries += self._bus.available
        if filling.tries >= TRIES:
            self._give_up(cursor)
            return
        self._stalled[cursor] = None
        if self._bus.available and self._retry is None:
            self._retry = self._clock.callLater(AGAIN, self._again)

    def _again(self) -> None:
        self._retry = None
        if self._bus.available:
            self.resume()

    def _give_up(self, cursor: Cursor) -> None:
        self._drop(cursor)
        self._outlet.gap(cursor.event_type, None)

    def _filled(self, cursor: Cursor, filling: Filling, past: Past) -> Iterator[None]:
        """Deliver the missed events, then those that arrived meanwhile, unless the history has to be read again for that."""
        if cursor.filling is not filling:
            return
        if past.top == NOWHERE:
            self._give_up(cursor)
            return
        if past.recovered:
            yield from self._deliver(cursor, filling, past)
        elif not cursor.offset and not cursor.seen and cursor.epoch != past.top.epoch and past.top.offset:
            # Nobody here has seen any event of it: what the new epoch has is delivered behind the gap.
            self._outlet.lost(cursor, Position(past.top.epoch, 0))
            self._ask(cursor, filling)
            return
        else:
            cursor.seen = cursor.seen or cursor.offset > 0
            self._outlet.lost(cursor, filling.after_gap(past.top))
        yield from self._drain(cursor, filling)
        if cursor.filling is not filling:
            return
        if filling.buffer or filling.forgot:
            self._ask(cursor, filling)
        else:
            cursor.filling = None
            _end(filling)

    def _deliver(self, cursor: Cursor, filling: Filling, past: Past) -> Iterator[None]:
        """Deliver the missed events."""
        self._metrics.gaps_filled += 1
        renewed = past.top.epoch != cursor.epoch
        for count, stored in enumerate(past.stored(cursor.offset), 1):
            if stored.offset <= cursor.offset:
                continue  # a recovering subscriber's read has delivered it meanwhile
            cursor.move(Position(past.top.epoch, stored.offset))
            self._metrics.events_filled += 1
            self._outlet.event(cursor.event_type, stored.data, stored.metadata, cursor.position)
            if not count % STEP:
                yield
                if cursor.filling is not filling:
                    return
        if renewed or past.top.offset > cursor.offset:
            cursor.move(past.top)
        if renewed:
            self._outlet.complete(cursor)

    def _drain(self, cursor: Cursor, filling: Filling) -> Iterator[None]:
        """Deliver the events that arrived meanwhile, up to the next gap."""
        count = 0
        while cursor.filling is filling and filling.buffer and not filling.forgot:
            live = filling.buffer[0]
            position = position_of(live)
            if position is None:
                new = True
            elif position.epoch == cursor.epoch:
                if position.offset > cursor.offset + 1:
                    return
                new = position.offset > cursor.offset
            elif filling.covered:
                new = False
            else:
                return
            filling.buffer.popleft()
            filling.covered -= filling.covered > 0
            self._count(filling, -size_of(live))
            if new:
                cursor.offset += position is not None
                self._outlet.live(cursor.event_type, live)
            count += 1
            if not count % STEP:
                yield


def _end(filling: Filling) -> None:
    for waiter in filling.waiters:
        _guarded(waiter)
