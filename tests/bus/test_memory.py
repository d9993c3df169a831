"""The memory bus beyond what every bus does: when it delivers, and how little that costs."""

from __future__ import annotations

import pytest_twisted
from twisted.internet.task import Clock, deferLater

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.model.errors import NexusError
from tests.bus.recording import Recorder, pattern, reactor


def test_what_is_taken_in_one_turn_is_delivered_together_in_the_next() -> None:
    """`done` comes at once, the events in the next turn, with one delayed call for all of them."""
    clock, heard = Clock(), Recorder()
    bus = MemoryBus(MemoryBroker(clock), "one")
    bus.start(heard)
    bus.subscribe(pattern("a.*"), lambda: None)
    answers: list[NexusError | None] = []
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
        def event(self, event_type: str, data: bytes, metadata: bytes) -> None:
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
