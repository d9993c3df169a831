"""Recorders: record the events that pass a node during a read of the history, for subscribers that get them afterwards.

There is one for each pattern that is being recovered, however many peers recover it. It holds references to shared events;
their bytes are bounded, and a recorder that had to drop some is marked `broken`.
"""

from __future__ import annotations

from typing import Final

from nexus_tw.model.events import Event
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, selecting
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.fan import Fan

BYTES: Final = 67108864  # of live events in this process, in recorders or queued behind a gap that is being filled
COST: Final = 512  # bytes of overhead that each event counts


class Gap:
    """A place where events are missing, and the position after it."""

    __slots__ = ("event_type", "position")

    def __init__(self, event_type: str, position: Position | None) -> None:
        self.event_type = event_type
        self.position = position


class Recorder:
    """The events that have passed under one pattern since it was begun, oldest first."""

    __slots__ = ("broken", "entries", "pattern", "size", "types", "users")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.entries: list[Fan | Gap] = []
        self.types: dict[str, list[Fan | Gap]] = {}  # the same by type
        self.size = 0
        self.users = 0
        self.broken = False  # entries were dropped for lack of room


class Recorders:
    """All recorders of a realm on this node."""

    def __init__(self, metrics: Metrics, room: int = BYTES) -> None:
        self._metrics = metrics
        self._room = room
        self._index: PatternIndex[Recorder] = PatternIndex(selecting)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def begin(self, pattern: Pattern) -> Recorder:
        """Record the events under this pattern until `end`."""
        recorder = self._index.get(pattern)
        if recorder is None:
            recorder = Recorder(pattern)
            self._index.put(pattern, recorder)
            self._count += 1
        recorder.users += 1
        return recorder

    def end(self, recorder: Recorder) -> None:
        recorder.users -= 1
        if not recorder.users:
            self._index.drop(recorder.pattern)
            self._count -= 1
            self._empty(recorder)

    def wants(self, event_type: str) -> bool:
        """Return whether events of this type are recorded."""
        return self._index.any(event_type)

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None) -> None:
        """Record an event that passes."""
        recorders = self._index.find(event_type)
        if recorders:
            event = Event.arrived(event_type, data, metadata, position)
            entry = Gap(event_type, position) if event is None else Fan(event, ())
            for recorder in recorders:
                self._add(recorder, entry, len(data) + len(metadata) + COST)

    def carried(self, event: Event) -> None:
        """Record an event that was published in this process."""
        for recorder in self._index.find(event.type):
            self._add(recorder, Fan(event, ()), len(event.payload.data) + COST)

    def gap(self, event_type: str, position: Position | None) -> None:
        """Record that events of this type are missing here."""
        for recorder in self._index.find(event_type):
            self._add(recorder, Gap(event_type, position), COST)

    def _add(self, recorder: Recorder, entry: Fan | Gap, size: int) -> None:
        if recorder.broken:
            return
        if self._metrics.recovery_buffered + size > self._room:
            self._empty(recorder)
            recorder.broken = True
            self._metrics.recovery_overflows += 1
            return
        recorder.entries.append(entry)
        recorder.types.setdefault(type_of(entry), []).append(entry)
        recorder.size += size
        self._metrics.recovery_buffered += size

    def _empty(self, recorder: Recorder) -> None:
        self._metrics.recovery_buffered -= recorder.size
        recorder.entries = []
        recorder.types = {}
        recorder.size = 0


def type_of(entry: Fan | Gap) -> str:
    """Return the event type of a recorded entry."""
    return entry.event_type if isinstance(entry, Gap) else entry.event.type
