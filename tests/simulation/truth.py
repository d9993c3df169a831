"""What is true: every event that the bus has ever taken, and which came after which."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from nexus_tw.model.positions import Position


class Place:
    """A point in the life of an event type: right after an event, or before its first one (`uid` 0).

    Places form a tree: where the bus lost the end of what it had, another branch begins.
    """

    __slots__ = ("before", "branches", "data", "event_type", "number", "position", "uid")

    def __init__(self, event_type: str, before: Place | None, position: Position | None, uid: int, data: Any) -> None:
        self.event_type = event_type
        self.before = before
        self.position = position
        self.uid = uid
        self.data = data
        self.number: int = before.number + 1 if before is not None else 0
        self.branches = 0  # that go on from here
        if before is not None:
            before.branches += 1

    def back(self) -> Iterator[Place]:
        """This place, the one before, and so on."""
        place: Place | None = self
        while place is not None:
            yield place
            place = place.before

    def follows(self, other: Place) -> bool:
        """Whether it is on a branch behind the other, or the other itself."""
        place: Place | None = self
        while place is not None and place.number > other.number:
            place = place.before
        return place is other

    def __repr__(self) -> str:
        return f"{self.event_type}@{self.position}" + (f"#{self.uid}" if self.uid else "")


class Truth:
    """All places, by position and by the number of the event."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, Position], Place] = {}
        self._forks: dict[tuple[str, str], Place] = {}  # where each epoch began that went on with the events of another one
        self.events: dict[int, Place] = {}
        self._own = count(-1, -1)  # numbers of events that the nodes themselves publish

    def beginning(self, event_type: str, position: Position | None) -> Place:
        place = Place(event_type, None, position, 0, None)
        if position is not None:
            place = self._places.setdefault((event_type, position), place)
        return place

    def also(self, place: Place, position: Position) -> None:
        """The same place under another name, and those before it."""
        self._places[place.event_type, position] = place
        self._forks[place.event_type, position.epoch] = place

    def event(self, before: Place, position: Position | None, data: Any) -> Place:
        place = Place(before.event_type, before, position, data["n"] if "n" in data else next(self._own), data)
        if position is not None:
            self._places[before.event_type, position] = place
        self.events.setdefault(place.uid, place)
        return place

    def at(self, event_type: str, position: Position) -> Place | None:
        """The place with that position; None where there has never been one."""
        place = self._places.get((event_type, position))
        if place is None:
            place = self._forks.get((event_type, position.epoch))
            while place is not None and place.number > position.offset:
                place = place.before
            if place is not None and place.number < position.offset:
                return None
        if place is None and not position.offset:
            # Before the first event of a type, its epoch may be that of another type under the same timeline.
            timeline = position.epoch.partition(".")[0]
            place = self._places.get((event_type, Position(f"{timeline}.-", 0)))
        return place
