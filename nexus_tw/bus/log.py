"""The history of one event type: its last events within the bounds of count, age and bytes, and the validity of positions.

Pure: the caller passes the time. `now` is monotonic seconds, for the age of events; `millis` is wall-clock time, which is only
stored.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
from itertools import islice

from nexus_tw.bus.bounds import Bound
from nexus_tw.model.positions import Position, Stored


class Verdict(Enum):
    """Whether the events after a position are all here, and if not, why."""

    WHOLE = "whole"  # all events after it are here
    EPOCH = "epoch"  # of another epoch
    AHEAD = "ahead"  # beyond the last event
    TRIMMED = "trimmed"  # an event after it was dropped
    OLD = "old"  # an event after it is past its age


class Log:
    """Events of one type. Dropping events does not change offsets."""

    __slots__ = ("_trimmed", "bound", "epoch", "events", "offset", "size")

    def __init__(self, epoch: str, bound: Bound, trimmed: Counter[str]) -> None:
        """`trimmed` counts the events that were dropped, by the bound that they exceeded."""
        self._trimmed = trimmed
        self.epoch = epoch
        self.bound = bound
        self.offset = 0  # of the last event
        self.size = 0  # bytes of data and metadata
        # Data, metadata, and the time of publication by the wall clock and the monotonic one. None instead of an empty deque,
        # which has room for 64: most known types may have no events.
        self.events: deque[tuple[bytes, bytes, int, float]] | None = None

    def __len__(self) -> int:
        return 0 if self.events is None else len(self.events)

    @property
    def top(self) -> Position:
        return Position(self.epoch, self.offset)

    @property
    def newest(self) -> float:
        """The time of the last event; there must be one."""
        assert self.events is not None
        return self.events[-1][3]

    def append(self, data: bytes, metadata: bytes, millis: int, now: float) -> int:
        """Add an event, and drop those that now exceed a bound. Return the number of dropped ones."""
        events = self.events
        if events is None:
            events = self.events = deque()
        bound = self.bound
        dropped = 0
        if len(events) >= bound.count:  # apart from the other bounds, since it is reached by every event
            old = events.popleft()
            self.size -= len(old[0]) + len(old[1])
            self._trimmed["count"] += 1
            dropped = 1
        events.append((data, metadata, millis, now))
        self.offset += 1
        self.size += len(data) + len(metadata)
        if self.size > bound.bytes or events[0][3] + bound.age < now:
            dropped += self._trim(events, now)
        return dropped

    def clear(self) -> int:
        """Drop all events. Return their number."""
        count, self.events, self.size = len(self), None, 0
        return count

    def verdict(self, since: Position, now: float) -> Verdict:
        """Return whether all events after that position are here."""
        if since.epoch != self.epoch:
            return Verdict.EPOCH
        missed = self.offset - since.offset
        if missed <= 0:
            return Verdict.AHEAD if missed else Verdict.WHOLE
        if self.events is None or missed > len(self.events):
            return Verdict.TRIMMED
        return Verdict.OLD if self.events[-missed][3] + self.bound.age < now else Verdict.WHOLE

    def oldest(self, now: float) -> int:
        """Return the offset before the first event that is not past its age."""
        offset = self.offset - len(self)
        for event in self.events or ():
            if event[3] + self.bound.age >= now:
                break
            offset += 1
        return offset

    def after(self, offset: int, limit: int | None = None) -> list[Stored]:
        """Return the events after that offset, whose verdict must be `WHOLE`, oldest first, at most `limit`."""
        missed = self.offset - offset
        if self.events is None or not missed:
            return []
        # From whichever end is nearer.
        skipped = len(self.events) - missed
        count = missed if limit is None else min(limit, missed)
        if skipped + count <= missed:
            found = list(islice(self.events, skipped, skipped + count))
        else:
            found = list(islice(reversed(self.events), missed - count, missed))
            found.reverse()
        return [Stored(place, data, millis, metadata) for place, (data, metadata, millis, _) in enumerate(found, offset + 1)]

    def _trim(self, events: deque[tuple[bytes, bytes, int, float]], now: float) -> int:
        before = len(events)
        while events:
            data, metadata, _, published = events[0]
            if published + self.bound.age < now:
                self._trimmed["age"] += 1
            elif self.size > self.bound.bytes:
                self._trimmed["bytes"] += 1
            else:
                return before - len(events)
            events.popleft()
            self.size -= len(data) + len(metadata)
        self.events = None
        return before
