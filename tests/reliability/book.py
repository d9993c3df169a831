"""What was acknowledged and what each subscriber was sent, held against each other.

Events come in streams: those of one source within one type, numbered from 1. An acknowledged event must reach each watcher,
once and in order, or lie in a gap of which the watcher was told. Positions must follow each other, and one position is one
event for everybody. Of an epoch that goes on where another one ended it must be said that nothing is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Message = dict[str, Any]
Stream = tuple[str, str]  # type and source
Place = tuple[str, int]  # epoch and offset

MOST = 20  # faults that are written down


def place_of(text: str) -> Place:
    epoch, _, offset = text.rpartition(":")
    return epoch, int(offset)


class Book:
    """The truth, and every violation of it that was found."""

    def __init__(self) -> None:
        self.acknowledged: dict[Stream, list[int]] = {}
        self.refused = 0
        self.unannounced = 0  # of the server's own events, those that somebody missed and was told of later
        self.faults: list[str] = []
        self._at: dict[tuple[str, str], tuple[str, int]] = {}

    def fault(self, text: str) -> None:
        if len(self.faults) < MOST:
            self.faults.append(text)

    def taken(self, event_type: str, source: str, number: int, position: str | None) -> None:
        """A publisher was told that its event is published."""
        numbers = self.acknowledged.setdefault((event_type, source), [])
        if numbers and numbers[-1] >= number:
            self.fault(f"{source} was told of {number} after {numbers[-1]}")
        numbers.append(number)
        if position is None:
            self.fault(f"{source} was told no position of {number}")
        else:
            self.there(event_type, position, source, number)

    def there(self, event_type: str, position: str, source: str, number: int) -> None:
        """Somebody was told that this event has this position."""
        known = self._at.setdefault((event_type, position), (source, number))
        if known != (source, number):
            self.fault(f"{event_type} has {known} and {(source, number)} at {position}")

    def check(self, watchers: Iterable[Watcher], announced: str = "") -> None:
        """Find what each watcher has missed in silence. Of events of the type `announced`, which are the server's own, a gap
        may be told later than the next one."""
        for watcher in watchers:
            for stream, numbers in self.acknowledged.items():
                if stream[0] in watcher.types:
                    missed, silently = watcher.missed(stream, numbers)
                    if stream[0] == announced:
                        self.unannounced += len(missed)
                        missed = silently
                    for number in missed:
                        self.fault(
                            f"{watcher.name} was never sent {stream[1]} {number}, which was acknowledged, nor told of a gap"
                        )


class Watcher:
    """What one subscriber was sent, over however many connections, and where it stands."""

    def __init__(self, name: str, types: Iterable[str], book: Book, hears: bool = True) -> None:
        """`hears`: it is told when nothing is missing. A client's application is not: the client keeps that to itself, and a
        type that has had no event yet may begin in another epoch."""
        self.name = name
        self.hears = hears
        self.types = frozenset(types)
        self.events = 0
        self.gaps = 0  # that it was told
        self.recoveries = 0  # returns without a gap
        self.last: dict[Stream, int] = {}
        self.at: dict[str, Place | None] = {}  # None: anything may follow
        self._book = book
        self._begun = False
        self._unsaid: dict[str, str] = {}  # by type, an epoch to which it came without being told that nothing is missing
        self._seen: dict[Stream, list[int]] = {}
        self._gaps: dict[str, int] = {}  # by type
        # By stream, before which numbers there was a gap: the places in the list above.
        self._gaps_before: dict[Stream, set[int]] = {}
        self._gaps_at: dict[Stream, int] = {}
        self._gaps_told: dict[Stream, list[int]] = {}  # with each of the events seen, how many gaps of its type came before

    @property
    def since(self) -> dict[str, str] | None:
        """What to say upon return; None if it stands nowhere."""
        if not self.at or None in self.at.values():
            return None
        return {event_type: f"{place[0]}:{place[1]}" for event_type, place in self.at.items() if place is not None}

    # --- what it is sent

    def subscribed(self, message: Message, since: dict[str, str] | None) -> None:
        positions, recovered = message.get("positions") or {}, message.get("recovered") or {}
        for event_type in self.types:
            text = positions.get(event_type)
            if not self._begun:
                self.at[event_type] = None if text is None else place_of(text)
            elif since is None:
                self._gap(event_type, text)
            elif text is None or event_type not in recovered:
                self.fault(f"is not told whether it has recovered {event_type}")
            elif recovered[event_type]:
                self.recoveries += 1
                self._goes_on(event_type, text)
            else:
                self._gap(event_type, text)
        self._begun = True

    def event(self, message: Message, source: str, number: int) -> None:
        event_type, text = message["eventType"], message.get("position")
        self.events += 1
        if text is None:
            self.fault(f"got {source} {number} without a position")
            return
        self._book.there(event_type, text, source, number)
        place = place_of(text)
        before = self.at.get(event_type)
        if before is not None and place[1] != before[1] + 1:
            self.fault(f"stood at {before} in {event_type}, got {place} ({source} {number})")
        elif before is not None and place[0] != before[0] and (self.hears or before[1]):
            self._unsaid[event_type] = place[0]
        self.at[event_type] = place
        stream = event_type, source
        if self.last.get(stream, 0) >= number:
            self.fault(f"got {source} {number} after {self.last[stream]}")
        self.last[stream] = number
        seen = self._seen.setdefault(stream, [])
        gaps = self._gaps.get(event_type, 0)
        if self._gaps_at.get(stream, 0) != gaps:
            self._gaps_at[stream] = gaps
            self._gaps_before.setdefault(stream, set()).add(len(seen))
        seen.append(number)
        self._gaps_told.setdefault(stream, []).append(gaps)

    def continuity(self, message: Message) -> None:
        name, text = message["eventType"], message.get("position")
        for event_type in [name] if name in self.types else self.types:
            if message["recovered"]:
                self._goes_on(event_type, text)
            else:
                self._gap(event_type, text)

    def _goes_on(self, event_type: str, text: str | None) -> None:
        """It was told that nothing is missing up to here."""
        before = self.at.get(event_type)
        if text is None:
            self.fault(f"has recovered {event_type} up to nowhere")
            return
        place = place_of(text)
        if before is not None and place[1] != before[1]:
            self.fault(f"stood at {before} in {event_type}, is told to have all up to {place}")
        self.at[event_type] = place
        self._unsaid.pop(event_type, None)

    def _gap(self, event_type: str, text: str | None) -> None:
        self.gaps += 1
        self._unsaid.pop(event_type, None)
        self._gaps[event_type] = self._gaps.get(event_type, 0) + 1
        self.at[event_type] = None if text is None else place_of(text)

    # ---

    def missed(self, stream: Stream, acknowledged: Iterable[int]) -> tuple[list[int], list[int]]:
        """Return the acknowledged events that were neither seen nor lie in a gap, and those of them after which no gap was told
        at all."""
        if unsaid := self._unsaid.pop(stream[0], None):
            self.fault(f"was not told that nothing is missing in {stream[0]} at the beginning of {unsaid}")
        seen, gaps = self._seen.get(stream, []), self._gaps_before.get(stream, set())
        place = 0
        missed: list[int] = []
        silently: list[int] = []
        for number in acknowledged:
            while place < len(seen) and seen[place] < number:
                place += 1
            if (place == len(seen) or seen[place] != number) and place not in gaps:
                missed.append(number)
                told = self._gaps_told[stream][place - 1] if place else 0
                if told == self._gaps.get(stream[0], 0):
                    silently.append(number)
        return missed, silently

    def fault(self, text: str) -> None:
        self._book.fault(f"{self.name} {text}")
