"""A model of Redis as the bus uses it: what it holds, what it carries out, and what becomes of that in a failover."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from itertools import count
from typing import Any

import msgspec

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.memory_claims import Claims
from nexus_tw.bus.memory_roll import Roll
from nexus_tw.bus.redis.ledger import UPDATED
from nexus_tw.model.attendance import STATUS, Attendance
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Missed, Position, Stored
from tests.simulation.clock import Time
from tests.simulation.plan import Plan
from tests.simulation.truth import Place, Truth
from tests.telling_ledger import TellingLedger

_decode = msgspec.json.Decoder().decode


class OtherTimeline(Exception):
    """The link was opened under a timeline that is over."""


class Log:
    """The history of one type: where it is, under which timelines it was, and the last of its events."""

    def __init__(self, timeline: str, birth: str, place: Place) -> None:
        self.timeline = timeline
        self.birth = birth
        self.offset = 0
        self.past: list[tuple[str, int]] = []  # earlier timelines, and the last offset of each
        self.events: deque[Stored] = deque()
        self.place = place

    @property
    def top(self) -> Position:
        return Position(f"{self.timeline}.{self.birth}", self.offset)

    def copy(self) -> Log:
        other = copy(self)
        other.past = list(self.past)
        other.events = self.events.copy()
        return other


class Data:
    """All that a server would lose with its memory."""

    def __init__(self, roll: Roll, claims: Claims, ledger: TellingLedger, attendance: Attendance) -> None:
        self.timeline = ""
        self.run = ""
        self.logs: dict[str, Log] = {}
        self.roll = roll
        self.claims = claims
        self.ledger = ledger
        self.attendance = attendance

    def copy(self) -> Data:
        other = copy(self)
        other.logs = {name: log.copy() for name, log in self.logs.items()}
        shared = self.roll, self.claims, self.ledger, self.attendance
        other.roll, other.claims, other.ledger, other.attendance = deepcopy(shared)
        return other


class Subscriber:
    """A connection that is subscribed."""

    def __init__(self, node: str, push: Callable[[tuple[Any, ...]], None]) -> None:
        self.node = node
        self.push = push
        self.patterns: dict[str, Pattern] = {}
        self.open = False  # whether messages to the node reach it


class Server:
    """Carries out what links ask for, one thing after the other."""

    make_ledger = TellingLedger
    make_attendance = Attendance

    def __init__(self, time: Time, plan: Plan, truth: Truth) -> None:
        self.up = True
        self.truth = truth
        self.witness: Callable[[str, Any], None] | None = None  # sees the events that the nodes themselves publish
        self.subscribers: list[Subscriber] = []
        self._time = time
        self.kept = Bounds(plan.history).of
        self._replica: Data | None = None
        self._run = "1"
        self._names = count(1)
        self._live: dict[str, Place] = {}  # the last event of each type without history
        self.data = self.new_data()

    def new_data(self) -> Data:
        """What an empty server has."""
        roll, time, tell = Roll(), self._time, self._tell
        # Functions, which a copy of the data shares; not methods.
        attendance = self.make_attendance(lambda told: tell(STATUS, told.data), lambda: time.now, roll.buried)
        ledger = self.make_ledger(lambda event: tell(UPDATED, event), Metrics(), lambda: time.now)
        ledger.heed(roll.buried)
        return Data(roll, Claims(), ledger, attendance)

    def _tell(self, event_type: str, data: bytes) -> None:
        self.take(event_type, data, b"")

    # --- what links ask for

    def open(self) -> str:
        """The timeline: a new one for the first link to a process."""
        data = self.data
        if not data.timeline or data.run != self._run:
            data.timeline, data.run = self.new_timeline(), self._run
        return data.timeline

    def new_timeline(self) -> str:
        return f"t{next(self._names)}"

    def new_birth(self) -> str:
        return f"b{next(self._names)}"

    def check(self, timeline: str) -> None:
        if self.data.timeline != timeline:
            raise OtherTimeline

    def publish(self, timeline: str, event_type: str, data: bytes, metadata: bytes) -> Position | None:
        self.check(timeline)
        return self.take(event_type, data, metadata)

    def take(self, event_type: str, data: bytes, metadata: bytes) -> Position | None:
        """An event gets its place, and goes to all who subscribe."""
        position = self.append(event_type, data, metadata)
        self.send(event_type, data, metadata, position)
        return position

    def append(self, event_type: str, data: bytes, metadata: bytes) -> Position | None:
        value = _decode(data)
        if self.witness is not None and "n" not in value:
            self.witness(event_type, value)
        kept = self.kept(event_type)
        if kept is None:
            before = self._live.get(event_type) or self.truth.beginning(event_type, None)
            self._live[event_type] = self.truth.event(before, None, value)
            return None
        log = self.log(event_type)
        if log.timeline != self.data.timeline:
            log.past.append((log.timeline, log.offset))
            log.timeline = self.data.timeline
            self.truth.also(log.place, log.top)
        log.offset += 1
        log.place = self.truth.event(log.place, log.top, value)
        log.events.append(Stored(log.offset, data, int(self._time.now * 1000), metadata))
        size = sum(len(event.data) + len(event.metadata) for event in log.events)
        while len(log.events) > kept.count or size > kept.bytes:
            gone = log.events.popleft()
            size -= len(gone.data) + len(gone.metadata)
        return log.top

    def log(self, event_type: str) -> Log:
        log = self.data.logs.get(event_type)
        if log is None:
            birth, timeline = self.new_birth(), self.data.timeline
            place = self.truth.beginning(event_type, Position(f"{timeline}.-", 0))
            log = self.data.logs[event_type] = Log(timeline, birth, place)
            self.truth.also(place, log.top)
        return log

    def send(self, event_type: str, data: bytes, metadata: bytes, position: Position | None) -> None:
        for subscriber in self.subscribers:
            if any(pattern.matches(event_type) for pattern in subscriber.patterns.values()):
                subscriber.push(("event", event_type, data, metadata, position))

    def message(self, node: str | None, body: bytes) -> int:
        reached = [one for one in self.subscribers if one.open and node in (None, one.node)]
        for subscriber in reached:
            subscriber.push(("message", body))
        return len(reached)

    def tops(self, timeline: str, types: Sequence[str]) -> dict[str, Position]:
        self.check(timeline)
        return {one: self.log(one).top for one in types if self.kept(one) is not None}

    def known(self, timeline: str, pattern: Pattern) -> dict[str, Position]:
        self.check(timeline)
        return {name: log.top for name, log in self.data.logs.items() if pattern.matches(name)}

    def read(self, timeline: str, requests: Sequence[tuple[str, Position]]) -> list[Missed]:
        self.check(timeline)
        return [self.missed(event_type, since) for event_type, since in requests]

    def page(self, timeline: str, event_type: str, since: Position | None, limit: int) -> Missed:
        self.check(timeline)
        log = self.data.logs.get(event_type)
        if log is None or since is not None:
            missed = self.missed(event_type, since or Position("-", 0))
            return missed._replace(events=missed.events[:limit])
        return Missed(True, log.top, self._young(event_type, log)[:limit])

    def missed(self, event_type: str, since: Position) -> Missed:
        log = self.data.logs.get(event_type)
        kept = self.kept(event_type)
        if log is None or kept is None:
            unborn = Position(f"{self.data.timeline}.-", 0)
            self.truth.beginning(event_type, unborn)
            return Missed(False, unborn)
        events = [event for event in self._young(event_type, log) if event.offset > since.offset]
        whole = self.follows(log, since) and len(events) == log.offset - since.offset
        return Missed(True, log.top, events) if whole else Missed(False, log.top)

    def follows(self, log: Log, since: Position) -> bool:
        """Whether the log goes on from that position."""
        timeline, _, birth = since.epoch.partition(".")
        if birth != log.birth:
            return since.offset == 0 and timeline == log.timeline and not log.past
        if timeline == log.timeline:
            return since.offset <= log.offset
        return any(timeline == name and since.offset <= last for name, last in log.past)

    def _young(self, event_type: str, log: Log) -> list[Stored]:
        kept = self.kept(event_type)
        assert kept is not None
        oldest = (self._time.now - kept.age) * 1000
        return [event for event in log.events if event.millis >= oldest]

    # --- what becomes of it

    def falls_behind(self) -> None:
        """The replica gets nothing from now on."""
        self._replica = self.data.copy()

    def end(self, data: Data) -> None:
        """The process ends, and the next one has this data."""
        self.data = data
        self._run = str(next(self._names))
        self._replica = None

    def restart(self) -> None:
        """All is there again, as from an append-only file."""
        self.end(self.data)

    def fail_over(self) -> None:
        """The replica takes over, or an old copy is loaded: what came since it fell behind is lost."""
        self.end(self._replica or self.data)

    def restart_empty(self) -> None:
        self.end(self.new_data())

    def flush(self) -> None:
        """Everything is deleted, and the links stay."""
        self.data = self.new_data()
