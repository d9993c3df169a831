"""The memory bus beyond what every bus does: when it delivers, and how little that costs."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock, deferLater

from nexus_tw.bus import memory, memory_history, requests
from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.history import History
from nexus_tw.bus.memory import SWEEP, MemoryBroker, MemoryBus
from nexus_tw.model import settings
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event, EventMetadata, Publisher, Rule, encode_metadata
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Payload
from nexus_tw.model.positions import Missed, Position
from tests.bus.recording import Recorder, pattern, reactor


def test_what_is_taken_in_one_turn_is_delivered_together_in_the_next() -> None:
    """`done` comes at once, the events in the next turn, with one delayed call for all of them."""
    clock, heard = Clock(), Recorder()
    bus = MemoryBus(MemoryBroker(clock), "one")
    bus.start(heard)
    bus.subscribe(pattern("a.*"), lambda: None)
    answers: list[Position | NexusError | None] = []
    for number in range(100):
        bus.publish("a.b", b"%d" % number, answers.append)
    assert answers == [None] * 100
    assert heard.events == []
    assert len(clock.getDelayedCalls()) == 1
    clock.advance(0)
    assert heard.events == [("a.b", b"%d" % number) for number in range(100)]
    assert not clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_what_a_listener_publishes_comes_a_turn_later() -> None:
    """An event that begets an event, for ever, does not hold up the reactor."""
    heard = Recorder()
    bus = MemoryBus(MemoryBroker(reactor), "one")
    await bus.start(heard)
    bus.subscribe(pattern("a"), lambda: None)
    heard.on_event = lambda _: bus.publish("a", b"again", lambda _: None)
    bus.publish("a", b"first", lambda _: None)
    await deferLater(reactor, 0.005)
    heard.on_event = None
    await bus.stop()
    assert heard.events[:2] == [("a", b"first"), ("a", b"again")]


def test_messages_and_events_keep_their_order() -> None:
    """What was sent between two events is heard between them."""
    clock, order = Clock(), list[bytes]()

    class Both(Recorder):
        def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None:
            order.append(data)

        def message(self, body: bytes) -> None:
            order.append(body)

    bus = MemoryBus(MemoryBroker(clock), "one")
    bus.start(Both())
    bus.subscribe(pattern("a"), lambda: None)
    bus.publish("a", b"1", lambda _: None)
    bus.send("one", b"2", lambda _: None)
    bus.publish("a", b"3", lambda _: None)
    clock.advance(0)
    assert order == [b"1", b"2", b"3"]


class Objects(Recorder):
    """Takes events as objects."""

    def __init__(self) -> None:
        super().__init__()
        self.carried_events: list[Event] = []

    def carried(self, event: Event) -> None:
        self.carried_events.append(event)


METADATA = EventMetadata(7, "value", Publisher(1, "sally", "guest"), Rule(exclude=[5]), {"enc_algo": "x"})


def test_an_event_comes_as_an_object_to_who_takes_objects_and_as_bytes_to_others() -> None:
    """In the order in which it was published, whichever way that was."""
    clock = Clock()
    broker = MemoryBroker(clock)
    objects, plain = Objects(), Recorder()
    nodes = [MemoryBus(broker, "one"), MemoryBus(broker, "two"), MemoryBus(broker, "three")]
    for bus, listener in zip(nodes, (objects, plain, Objects()), strict=True):
        bus.start(listener)
    for bus in nodes[:2]:
        bus.subscribe(pattern("a"), lambda: None)
    answers: list[Any] = []
    payload = Payload.of_json(b'{"x":1}', "data", 32)
    nodes[0].publish("a", b"1", answers.append)
    nodes[0].carry("a", payload, METADATA, answers.append)
    nodes[1].carry("a", Payload.of_value(b"3"), None, answers.append)
    assert answers == [None] * 3 and not plain.events
    clock.advance(0)
    assert objects.events == [("a", b"1")]
    first, second = objects.carried_events
    assert (first.type, first.payload, first.metadata, first.position) == ("a", payload, METADATA, None)
    assert (second.payload.data, second.metadata) == (b"3", None)
    assert plain.events == [("a", b"1"), ("a", b'{"x":1}'), ("a", b"3")]
    assert plain.metadata == [b"", encode_metadata(METADATA), b""]
    nodes[0].stop()
    nodes[0].carry("a", payload, None, answers.append)
    assert answers[-1].code == "bus_unavailable"


def test_decoded_values_of_a_turn_are_kept_up_to_a_bound_and_the_rest_is_decoded_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "DECODED", 20)
    clock, heard = Clock(), Objects()
    bus = MemoryBus(MemoryBroker(clock), "one")
    bus.start(heard)
    bus.subscribe(pattern("a"), lambda: None)
    for _ in range(2):
        payloads = [Payload.of_json(b'{"x":1,"y":2}', "data", 32) for _ in range(2)]
        for payload in payloads:
            bus.carry("a", payload, None, lambda _: None)
        assert [payload.decoded for payload in payloads] == [13, 0]
        clock.advance(0)
        assert [event.payload.value for event in heard.carried_events[-2:]] == [{"x": 1, "y": 2}] * 2


class Turns(Clock):
    """A clock of which `advance` lets a turn follow a turn, and `turn` is one alone."""

    def turn(self) -> None:
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class Keeping:
    """A node with a history, on a wall clock and a monotonic one that the test sets apart from each other."""

    def __init__(self, **bounds: Any) -> None:
        self.clock, self.monotonic = Turns(), Clock()
        self.metrics = Metrics()
        self.heard = Recorder()
        history = History(Bounds(settings.History(**bounds)), self.metrics)
        self.broker = MemoryBroker(self.clock, history, self.monotonic.seconds)
        self.bus = MemoryBus(self.broker, "one")
        self.bus.start(self.heard)
        assert self.bus.history is not None
        self.history = self.bus.history

    def pass_time(self, seconds: float) -> None:
        self.monotonic.advance(seconds)
        self.clock.advance(seconds)

    def put(self, event_type: str = "a", data: bytes = b"1") -> Position:
        answers: list[Any] = []
        self.bus.publish(event_type, data, answers.append)
        self.clock.advance(0)
        position: Position = answers[0]
        return position

    def carry(self, event_type: str, payload: Payload, metadata: EventMetadata) -> Position:
        answers: list[Any] = []
        self.bus.carry(event_type, payload, metadata, answers.append)
        self.clock.advance(0)
        position: Position = answers[0]
        return position

    def read(self, since: Position, event_type: str = "a") -> Missed:
        answers: list[Any] = []
        self.history.read([(event_type, since)], answers.append)
        self.clock.advance(0)
        missed: Missed = answers[0][0]
        return missed


def test_events_published_as_objects_and_as_bytes_are_of_one_history() -> None:
    node = Keeping(count=10)
    first = node.put("a", b"1")
    second = node.carry("a", Payload.of_json(b"2", "data", 32), METADATA)
    third = node.put("a", b"3")
    assert [first.offset, second.offset, third.offset] == [1, 2, 3]
    kept = node.read(Position(first.epoch, 0)).events
    assert [(event.data, event.metadata) for event in kept] == [(b"1", b""), (b"2", encode_metadata(METADATA)), (b"3", b"")]


def test_an_event_ages_by_the_monotonic_clock_and_a_step_of_the_wall_clock_changes_nothing() -> None:
    node = Keeping(age=10)
    start = Position(node.put().epoch, 0)
    node.clock.advance(3600)  # somebody sets the clock an hour ahead
    assert node.read(start).recovered
    assert node.metrics.history_events == 1
    node.monotonic.advance(10)
    assert node.read(start).recovered
    node.monotonic.advance(0.1)
    assert not node.read(start).recovered
    place = node.put()
    node.clock.rightNow -= 7200  # and two hours back
    node.monotonic.advance(9)
    later = node.put()
    assert [event.millis for event in node.read(Position(place.epoch, 1)).events] == [3600000, -3600000]
    node.monotonic.advance(2)
    assert not node.read(Position(place.epoch, 1)).recovered
    assert node.read(place) == Missed(True, later, node.read(place).events)
    assert len(node.read(place).events) == 1


def test_memory_is_released_once_the_last_event_of_a_type_is_past_its_age_without_another_event() -> None:
    node = Keeping(age=10)
    node.put("a")
    node.pass_time(5)
    place = node.put("b")
    node.pass_time(5 + SWEEP)
    node.pass_time(SWEEP)
    assert node.metrics.history_events == 1
    node.pass_time(5)
    assert node.metrics.history_events == 0
    assert node.metrics.history_trimmed == {"age": 2}
    assert not node.clock.getDelayedCalls()
    assert node.read(place, "b").recovered
    assert node.put("b").offset == 2
    assert len(node.clock.getDelayedCalls()) == 1
    node.bus.stop()
    assert not node.clock.getDelayedCalls()


def test_a_read_is_answered_in_the_next_turn_and_a_large_one_is_spread_over_turns() -> None:
    node = Keeping(count=10000, bytes=10**9)
    start = Position(node.put().epoch, 0)
    for _ in range(9999):
        node.bus.publish("a", b"1", lambda _: None)
    node.clock.advance(0)
    answers: list[Any] = []
    for since in range(5):
        node.history.read([("a", Position(start.epoch, since))] * 3, answers.append)
    assert answers == []
    turns = []
    while len(answers) < 5:
        before = len(answers)
        node.clock.turn()
        turns.append(len(answers) - before)
    assert turns == [2, 2, 1]
    assert memory_history.EVENTS_AT_ONCE < 2 * 10000


def test_patterns_are_compared_with_some_types_in_each_turn_and_equal_ones_once() -> None:
    node = Keeping()
    count = 2 * memory_history.NAMES_AT_ONCE + 10
    node.history.tops([f"t.{number}" for number in range(count)], lambda _: None)
    answers: list[Any] = []
    for text in ("t.*", "t.**", "t.*", "*.*"):
        node.history.known(pattern(text), answers.append)
    sizes = []
    for turn in range(7):
        node.clock.turn()
        sizes.append(len(answers))
        if turn == 0:  # one that is under way may have passed what is new: whoever asks now is answered by another
            node.history.tops(["t.new"], lambda _: None)
            node.history.known(pattern("t.*"), answers.append)
    assert sizes == [0, 0, 2, 2, 3, 3, 4]
    while len(answers) < 5:
        node.clock.turn()
    assert [len(answer) for answer in answers] == [count, count, count + 1, count + 1, count + 1]
    assert not node.clock.getDelayedCalls()


def test_patterns_that_wait_are_bounded() -> None:
    node = Keeping()
    node.put("a.1.b")
    answers: list[Any] = []
    for number in range(memory_history.SCANS + 1):
        node.history.known(pattern(f"a.{number}.*"), answers.append)
    node.history.known(pattern("a.1.*"), answers.append)
    (refused,) = answers
    assert (refused.code, refused.message) == (
        "bus_unavailable",
        f"The event bus is behind: {memory_history.SCANS} patterns wait to be compared",
    )
    node.clock.advance(0)
    assert len(answers) == memory_history.SCANS + 2
    assert sum(map(bool, answers[1:])) == 2


def test_positions_that_wait_to_be_read_are_bounded() -> None:
    node = Keeping()
    place = node.put()
    answers: list[Any] = []
    node.history.read([("a", Position("x", number)) for number in range(requests.MAX_WAITING)], answers.append)
    node.history.read([("a", place)], answers.append)
    (refused,) = answers
    assert refused.code == "bus_unavailable"
    assert f"more than {requests.MAX_WAITING} positions" in refused.message
    node.clock.advance(0)
    assert len(answers[1]) == requests.MAX_WAITING
    assert node.read(place).recovered


def test_without_a_history_there_are_no_positions() -> None:
    bus, heard = MemoryBus(MemoryBroker(clock := Clock()), "one"), Recorder()
    bus.start(heard)
    bus.subscribe(pattern("a"), lambda: None)
    assert bus.history is None
    bus.publish("a", b"1", lambda answer: heard.changes.append(repr(answer)))
    clock.advance(0)
    assert (heard.changes, heard.positions) == (["None"], [None])
