"""What a subscriber sees of a type is its events in order, or it is told: whatever is delayed, dropped, trimmed or lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from nexus_tw.interfaces.peers import Subscription
from nexus_tw.interfaces.realm import Placed, SubscribeReply, SubscribeRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.notices import ContinuityNotice, Notice
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import History, Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.service import PubSub
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.turn import Turn
from tests.fleet.pretend import alone
from tests.pubsub.history_bus import HistoryBus
from tests.recording import RecordingPeer

TYPES = ("a", "b.x", "b.y", "b.z")
WISHES = (("a",), ("b.*",), ("**",), ("b.x", "a"), ("b.*", "b.x"), ("**", "b.*"))

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class Placing:
    """An encoding that shows positions."""

    key = name = "placing"
    once = True

    def event(self, event: Event, _subscription: Subscription) -> bytes:
        assert event.position is not None
        return _encode(["event", event.type, int(event.payload.data), event.position.text]) + b"\n"

    def notice(self, notice: Notice) -> bytes:
        assert isinstance(notice, ContinuityNotice)
        at = None if notice.position is None else notice.position.text
        return _encode(["continuity", notice.event_type, notice.recovered, at]) + b"\n"


class Truth:
    """What was published: the event at each position, and the one before each."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str], int] = {}  # by type and position; 0 before the first
        self.before: dict[int, int] = {}

    def put(self, event_type: str, position: Position) -> int:
        number = len(self.before) + 1
        self.before[number] = self.at.get((event_type, Position(position.epoch, position.offset - 1).text), 0)
        self.at[event_type, position.text] = number
        return number


class Subscriber:
    """One client, held to what it is told."""

    def __init__(self, world: World, patterns: tuple[str, ...], since: dict[str, Position] | None) -> None:
        self._world = world
        self.patterns = patterns
        self.since = since
        self.peer = RecordingPeer(encoding=Placing())
        self.peer.deliver = self._heard
        self.last: dict[str, int | None] = {}  # the event after which it stands; None if nobody can say
        self.positions: dict[str, Position] = {}
        self.answered = False
        self.everything = False  # it was told the positions of all types
        self.events = 0
        written = None if since is None else {name: place.text for name, place in since.items()}
        request = SubscribeRequest(patterns, None, written)
        world.pubsub.subscriptions.subscribe(
            self.peer, self.peer.principal, request, SubscribeReply(self._placed, self._failed)
        )

    def wants(self, name: str) -> bool:
        return any(Pattern.parse(text).matches(name) for text in self.patterns)

    def _failed(self, error: NexusError) -> None:
        assert self.since is not None and error.code == "bus_unavailable", error
        self._world.subscribers.pop(self, None)

    def _placed(self, placed: Placed) -> None:
        assert not self.answered
        self.answered = True
        self.everything = placed.positions is not None
        for name, position in (placed.positions or {}).items():
            assert self.wants(name)
            self._stand(name, position)
        if self.since is None:
            assert placed.recovered is None
            return
        assert placed.recovered is not None
        for name, recovered in placed.recovered.items():
            known = self.since.get(name)
            if not recovered:
                continue
            if known is None:
                assert self.last[name] == 0, "a type that was never seen begins at its beginning"
            elif known.offset:
                assert self._world.truth.at[name, known.text] == self.last[name], "it goes on where it was"
        assert {name for name in self.since if self.wants(name)} <= placed.recovered.keys()

    def _stand(self, name: str, position: Position) -> None:
        self.positions[name] = position
        self.last[name] = self._world.truth.at[name, position.text] if position.offset else 0

    def _heard(self, frames: bytes) -> None:
        try:
            self._hear(frames)
        except AssertionError as wrong:
            self._world.wrong.append(wrong)  # a peer that raises is logged and closed
            raise

    def _hear(self, frames: bytes) -> None:
        for line in frames.splitlines():
            kind, name, *rest = _decode(line)
            if kind == "event":
                assert self.answered
                self._event(name, *rest)
            else:
                self._told(name, *rest)

    def _event(self, name: str, number: int, at: str) -> None:
        self.events += 1
        assert self.wants(name) and self._world.truth.at[name, at] == number
        if name in self.last:
            assert self.last[name] in (None, self._world.truth.before[number]), (name, self.last[name], number)
        elif self.everything:
            assert self._world.truth.before[number] == 0, "the first event of a type that was not there"
        self.last[name] = number
        self.positions[name] = Position.parse(at, "at")

    def _told(self, name: str, recovered: bool, at: str | None) -> None:
        if recovered:
            assert at is not None
            position = Position.parse(at, "at")
            there = self._world.truth.at[name, at] if position.offset else 0
            assert self.last.get(name) in (None, there), "nothing was missed"
            self.last[name] = there
            self.positions[name] = position
        elif at is not None:
            self._stand(name, Position.parse(at, "at"))
        else:
            for event_type in TYPES if "*" in name else (name,):
                self.last[event_type] = None
                self.positions.pop(event_type, None)
            self.everything = False


class World:
    """A node on a bus in the test's hands."""

    def __init__(self, size: int = 1) -> None:
        """Events have this many bytes."""
        self.size = size
        self.clock = Clock()
        self.bus = HistoryBus()
        self.bus.past.at_once = False
        self.metrics = Metrics()
        self.spread = Spread(self.clock)
        self.pubsub = PubSub(
            self.bus, alone(), Turn(self.clock).add, self.clock, self.spread, Limits(), self.metrics, History(), Roster(), tuple
        )
        self.bus.listener = self.pubsub.listener
        self.truth = Truth()
        self.subscribers: dict[Subscriber, None] = {}
        self.gone: list[Subscriber] = []
        self.timelines = 0
        self.wrong: list[AssertionError] = []

    # --- what may happen

    def publish(self, number: int) -> None:
        name = TYPES[number % len(TYPES)]
        for _ in range(1 + number % 3):
            log = self.bus.past.log(name)
            written = self.truth.put(name, Position(log.epoch, log.top + 1))
            self.bus.put(name, b"%-*d" % (self.size, written))

    def arrive(self, number: int) -> None:
        self.bus.arrive(1 + number % 4)

    def drop(self, _number: int) -> None:
        if self.bus.live:
            self.bus.live.popleft()

    def look(self, _number: int) -> None:
        self.bus.past.look()

    def answer(self, _number: int) -> None:
        self.bus.past.answer()

    def turn(self, number: int) -> None:
        self.clock.advance(number % 2 * 0.3)

    def subscribe(self, number: int) -> None:
        subscriber = Subscriber.__new__(Subscriber)
        self.subscribers[subscriber] = None
        subscriber.__init__(self, WISHES[number % len(WISHES)], None)  # type: ignore[misc]

    def leave(self, number: int) -> None:
        if self.subscribers:
            leaving = list(self.subscribers)[number % len(self.subscribers)]
            del self.subscribers[leaving]
            self.pubsub.subscriptions.gone(leaving.peer)
            leaving.peer.deliver = lambda _frames: None
            if leaving.answered and leaving.everything:
                self.gone.append(leaving)

    def comes_back(self, number: int) -> None:
        if self.gone:
            old = self.gone.pop(number % len(self.gone))
            subscriber = Subscriber.__new__(Subscriber)
            self.subscribers[subscriber] = None
            subscriber.__init__(self, old.patterns, dict(old.positions))  # type: ignore[misc]

    def stall(self, number: int) -> None:
        for subscriber in list(self.subscribers)[number % 2 :: 2]:
            subscriber.peer.left = 0

    def read(self, _number: int = 0) -> None:
        for subscriber in self.subscribers:
            subscriber.peer.left = 1 << 30

    def trim(self, number: int) -> None:
        self.bus.past.trim(TYPES[number % len(TYPES)], 1 + number % 3)

    def lose(self, _number: int) -> None:
        self.bus.lose()

    def restore(self, _number: int) -> None:
        self.bus.restore()

    def restart(self, number: int) -> None:
        self.bus.lose()
        self.timelines += 1
        before = {name: log.epoch for name, log in self.bus.past.logs.items()}
        self.bus.past.restart(f"t{self.timelines}", number % 3)
        for name, log in self.bus.past.logs.items():
            for offset in range(1, log.top + 1):
                at = self.truth.at[name, f"{before[name]}:{offset}"]
                self.truth.at[name, f"{log.epoch}:{offset}"] = at

    def forget(self, _number: int) -> None:
        self.bus.lose()
        self.timelines += 1
        self.bus.past.forget(f"t{self.timelines}")

    def settle(self, _number: int = 0) -> None:
        """Everything that is on its way arrives."""
        self.bus.restore()
        self.read()
        for _ in range(40):
            self.clock.advance(0.3)
            self.bus.past.settle()
            self.bus.arrive()
        assert not self.bus.past.asked and not self.bus.live and not len(self.spread)


OPS: list[Callable[[World, int], None]] = [
    *[World.publish, World.arrive, World.look, World.answer, World.turn] * 6,
    *[World.subscribe, World.leave, World.comes_back, World.restore, World.settle, World.read] * 2,
    *[World.stall, World.drop, World.trim, World.lose, World.restore, World.restart, World.forget],
]


@given(st.sampled_from([1, 40000]), st.lists(st.tuples(st.sampled_from(OPS), st.integers(0, 11)), max_size=80))
@settings(max_examples=400)
def test_every_subscriber_sees_the_events_of_a_type_in_order_or_is_told(size: int, story: list[tuple[Any, int]]) -> None:
    world = World(size)
    for act, number in story:
        act(world, number)
    world.settle()
    for number in range(len(TYPES)):  # by which a gap that nobody could notice is noticed
        world.publish(number)
    world.settle()
    assert not world.wrong, world.wrong
    for subscriber in world.subscribers:
        assert subscriber.answered
        for name in filter(subscriber.wants, TYPES):
            log = world.bus.past.log(name)
            newest = world.truth.at[name, f"{log.epoch}:{log.top}"]
            assert subscriber.last.get(name) == newest, name
    for subscriber in list(world.subscribers):
        world.pubsub.subscriptions.gone(subscriber.peer)
    world.settle()
    assert not list(world.pubsub.cursors)
    assert world.metrics.recovery_buffered == 0 and world.metrics.cursors == 0
