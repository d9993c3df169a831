"""Reads the history: all requests of a reactor turn are one query to the bus, and equal positions are read once.

Only one query is open at a time, for a bounded number of positions, so that answers do not accumulate in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Missed, Position, Stored
from nexus_tw.pubsub.fan import Fan
from nexus_tw.runtime.guard import Guard

AT_ONCE: Final = 64  # positions in one query
NO_EPOCH: Final = "-"  # an epoch from which no event can be recovered
MOST: Final = 65536  # positions that wait to be read

NO_HISTORY: Final = NexusError("bus_unavailable", "The event bus keeps no history")

_guarded: Final = Guard(__name__, "What was read from the history could not be handled")


class Past:
    """The events after a position of a type: exactly those up to `top`, or none if any of them is gone.

    All its users share the decoded events and their frames.
    """

    __slots__ = ("_fans", "_stored", "_type", "held", "recovered", "size", "top")

    def __init__(self, event_type: str, missed: Missed) -> None:
        self._type = event_type
        self._stored: Sequence[Stored] = missed.events
        self._fans: dict[int, Fan | None] = {}
        self.held = 0  # number of recoveries that use it
        self.recovered = missed.recovered
        self.top = missed.top
        self.size = sum([len(stored.data) for stored in missed.events])

    def fans(self, after: int = 0) -> Iterator[tuple[int, Fan | None]]:
        """Yield the events after this offset; None for one whose metadata cannot be decoded."""
        for stored in self._stored:
            offset = stored.offset
            if offset > after:
                if offset not in self._fans:
                    self._fans[offset] = self._fan(stored)
                yield offset, self._fans[offset]

    def stored(self, after: int) -> Iterator[Stored]:
        """Return an iterator of the events after this offset, as stored."""
        return (stored for stored in self._stored if stored.offset > after)

    def _fan(self, stored: Stored) -> Fan | None:
        position = Position(self.top.epoch, stored.offset)
        event = Event.arrived(self._type, stored.data, stored.metadata, position)
        return None if event is None else Fan(event, ())


def likest(epochs: Iterable[str], epoch: str) -> str:
    """Return the epoch with the longest common prefix with `epoch`: the best witness for the beginning of that type."""
    def likeness(known: str) -> int:
        return next((place for place, (one, other) in enumerate(zip(known, epoch, strict=False)) if one != other), len(known))

    return max(epochs, key=likeness, default=NO_EPOCH)


Read = Callable[[Past | NexusError], None]


Known = Callable[[dict[str, Position] | NexusError], None]


class Catalogue:
    """Queries the types that a pattern selects. Concurrent queries of the same pattern share one answer."""

    def __init__(self, bus: IBus) -> None:
        self._bus = bus
        self._waiting: dict[str, list[Known]] = {}

    def ask(self, pattern: Pattern, done: Known) -> None:
        """Have `done` called with the positions of the types. The caller must record events under the pattern meanwhile."""
        waiters = self._waiting.get(pattern.text)
        if waiters is not None:
            waiters.append(done)
            return
        self._waiting[pattern.text] = [done]

        def answered(known: dict[str, Position] | NexusError) -> None:
            for waiter in self._waiting.pop(pattern.text):
                _guarded(waiter, known)

        history = self._bus.history
        if history is None:
            answered(NO_HISTORY)
        else:
            history.known(pattern, answered)


class Reads:
    """Reads the bus's history on behalf of all users on this node."""

    def __init__(self, bus: IBus, end_of_turn: Callable[[Callable[[], None]], None]) -> None:
        self._bus = bus
        self._end_of_turn = end_of_turn
        self._waiting: dict[tuple[str, Position], list[Read]] = {}
        self._scheduled = False  # a query is scheduled or open

    def ask(self, event_type: str, since: Position, done: Read) -> None:
        """Have `done` called with the events after that position, never before this returns."""
        request = event_type, since
        if request not in self._waiting and len(self._waiting) >= MOST:
            error = NexusError("bus_unavailable", f"The event bus is behind: more than {MOST} positions wait to be read")
            self._end_of_turn(lambda: done(error))
            return
        self._waiting.setdefault(request, []).append(done)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and self._waiting:
            self._scheduled = True
            self._end_of_turn(self._read)

    def _read(self) -> None:
        requests = list(islice(self._waiting, AT_ONCE))
        waiters = [self._waiting.pop(request) for request in requests]

        def done(answers: list[Missed] | NexusError) -> None:
            self._scheduled = False
            self._schedule()
            for place, (event_type, _) in enumerate(requests):
                answer = answers if isinstance(answers, NexusError) else Past(event_type, answers[place])
                for waiter in waiters[place]:
                    _guarded(waiter, answer)

        history = self._bus.history
        if history is None:
            done(NO_HISTORY)
        else:
            history.read(requests, done)
