"""The backlog: counts the bytes queued for all clients, and decides which clients are too slow.

An outbox comes here only if its client's socket has not accepted everything. A client past its limit has `GRACE` to fall
below it again, so that a burst which it reads in the next second closes nobody; past `HARD` times `limits.send_queue` it is
closed at once.
All queues together hold no more than `limits.send_queues`, and those of one subject no more than their share of it: past that,
the clients with the longest queues are dropped.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.model.settings import Limits
from nexus_tw.runtime.guard import Guard

LOOK: Final = 0.25  # s between two checks of the queues
# Checks in a row at which a client may be past its limit. Not seconds: a server that was stopped has sent nothing meanwhile.
GRACE: Final = 4
HARD: Final = 8  # times limits.send_queue: past that a client is too slow at once
RELIEF: Final = 0.75  # of a bound is left once it was exceeded, so that the next check of all queues is some time away

_guarded: Final = Guard(__name__, "A client that is too slow could not be closed")


class Queue(Protocol):
    """The queue of one client, as the backlog sees it."""

    counted: int  # bytes queued at the last check
    holder: Holder | None  # where it is counted; None while nothing is queued
    limit: int  # bytes
    looks: int  # checks in a row that found more than that

    @property
    def account(self) -> str:
        """The account under which the client's queue is counted."""

    def waiting(self) -> int:
        """Return the bytes queued now."""

    def slow(self) -> None:
        """Close the client as too slow, unless it is being closed already."""

    def overrun(self) -> None:
        """Close the client and discard its queue at once, since there is no room for it."""


class Holder:
    """The queued bytes for all clients of one subject."""

    __slots__ = ("account", "bytes", "outboxes")

    def __init__(self, account: str) -> None:
        self.account = account
        self.bytes = 0
        self.outboxes: dict[Queue, None] = {}


class Backlog:
    """Counts queued bytes, and judges which clients are too slow."""

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._holders: dict[str, Holder] = {}
        self._timer: IDelayedCall | None = None
        self.bytes = 0

    def count(self, outbox: Queue) -> None:
        """Count a client with queued bytes, after a write to it."""
        waiting = outbox.waiting()
        if not waiting and outbox.holder is None:
            return
        self._note(outbox, waiting)
        if waiting > outbox.limit and waiting > HARD * self._limits.send_queue:
            outbox.slow()
        holder, size = outbox.holder, self._limits.send_queues
        if size and holder is not None:
            if self.bytes > size:
                self._relieve(list(self._holders.values()), size * RELIEF)
            elif holder.bytes > size * self._limits.share:
                self._relieve([holder], size * self._limits.share * RELIEF)

    def forget(self, outbox: Queue) -> None:
        """Stop counting a client whose queue is empty, or that is gone."""
        self._note(outbox, 0)

    def _note(self, outbox: Queue, waiting: int) -> None:
        holder = outbox.holder
        if holder is None:
            if not waiting:
                return
            holder = self._holders.get(outbox.account)
            if holder is None:
                holder = self._holders[outbox.account] = Holder(outbox.account)
            outbox.holder = holder
            holder.outboxes[outbox] = None
            if self._timer is None:
                self._timer = self._clock.callLater(LOOK, self._look)
        grown = waiting - outbox.counted
        outbox.counted = waiting
        holder.bytes += grown
        self.bytes += grown
        if not waiting:
            outbox.holder = None
            outbox.looks = 0
            del holder.outboxes[outbox]
            if not holder.outboxes:
                del self._holders[holder.account]
            if not self._holders and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look(self) -> None:
        self._timer = self._clock.callLater(LOOK, self._look)
        for outbox in self._all():
            self._note(outbox, outbox.waiting())
            if outbox.counted <= outbox.limit:
                outbox.looks = 0
            else:
                outbox.looks += 1
                if outbox.looks > GRACE:
                    _guarded(outbox.slow)

    def _all(self) -> list[Queue]:
        return [outbox for holder in self._holders.values() for outbox in holder.outboxes]

    def _relieve(self, holders: list[Holder], most: float) -> None:
        """Drop clients until at most this many bytes are queued for these holders: from the subject with the most queued bytes
        the client with the longest queue, and so on."""
        # Bytes read since the last check are no reason to drop anybody.
        for outbox in [outbox for holder in holders for outbox in holder.outboxes]:
            self._note(outbox, outbox.waiting())
        left = sum(holder.bytes for holder in holders)
        queues = [sorted(holder.outboxes, key=lambda outbox: outbox.counted) for holder in holders]
        heap = [(-holder.bytes, place) for place, holder in enumerate(holders)]
        heapify(heap)
        while heap and left > most:
            held, place = heappop(heap)
            if queues[place]:
                outbox = queues[place].pop()
                freed = outbox.counted
                left -= freed
                self.forget(outbox)
                _guarded(outbox.overrun)
                heappush(heap, (held + freed, place))
