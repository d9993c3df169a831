"""A cursor: the position of a node in the history of one event type, and the gap after it that is being filled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf

from nexus_tw.model.events import Event
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.recorders import COST

Live = tuple[bytes, bytes, Position | None] | Event
"""An event that has arrived: data, metadata and position, or as it was published in this process."""


class Filling:
    """A gap that is being filled, and the events that arrived meanwhile."""

    __slots__ = ("buffer", "covered", "forgot", "size", "tries", "waiters")

    def __init__(self) -> None:
        self.buffer: deque[Live] = deque()
        self.size = 0
        self.covered = 0  # so many of the buffered events arrived before the read was requested
        self.forgot = False  # events were dropped for lack of room
        self.tries = 0  # failed reads
        self.waiters: list[Callable[[], None]] = []  # to be called once the gap is filled

    def after_gap(self, top: Position) -> Position:
        """Return where to go on behind a gap: before an unbroken run of live events in hand that leads to `top`, else there."""
        first: Position | None = None
        for position in map(position_of, reversed(self.buffer)):
            if position is None:
                continue
            if position.epoch != top.epoch:
                break
            if position.offset < top.offset if first is None else position.offset != first.offset - 1:
                break
            first = position
        return top if first is None else Position(first.epoch, first.offset - 1)


class Cursor:
    """The position of this node in the history of one type."""

    __slots__ = ("due", "epoch", "event_type", "filling", "held", "left", "lost", "mark", "offset", "seen", "used")

    def __init__(self, event_type: str, position: Position) -> None:
        self.event_type = event_type
        self.epoch, self.offset = position
        self.used = True
        self.seen = False  # events of an epoch before this one were delivered
        self.held = True  # until it is dropped
        self.filling: Filling | None = None
        self.lost: Position | None = None  # the last position up to which a gap was reported
        # The next position for subscribers with filters is due at this offset, after so many bytes, or at that time.
        self.mark = inf
        self.left = inf
        self.due = inf

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.offset)

    @property
    def known(self) -> bool:
        """Return whether the position is one of the type's own; its beginning may be named by another type's epoch."""
        return self.filling is None or self.offset > 0

    def move(self, position: Position) -> None:
        self.epoch, self.offset = position


def position_of(live: Live) -> Position | None:
    """Return the position of an event that has arrived."""
    return live.position if isinstance(live, Event) else live[2]


def size_of(live: Live) -> int:
    """Return the bytes that it counts while it is buffered."""
    return COST + (len(live.payload.data) if isinstance(live, Event) else len(live[0]) + len(live[1]))
