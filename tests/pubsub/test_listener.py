"""The listener of a realm's bus, and the order of its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.realm import SubscribeReply, SubscribeRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Payload
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import History, Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.service import PubSub
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.turn import Turn
from tests.fakes import HandBus
from tests.fleet.pretend import alone
from tests.pubsub.world import World, continuity
from tests.recording import RecordingPeer, principal


def assembled(bus: Any, clock: Clock) -> PubSub:
    return PubSub(bus, alone(), Turn(clock).add, clock, Spread(clock), Limits(), Metrics(), History(), Roster(), tuple)


def test_when_the_bus_is_back_subscribers_are_told_what_is_missing_before_an_event_that_waited() -> None:
    world, peer = World(), RecordingPeer()
    world.subscribe(peer, "a")
    world.bus.available = False
    world.publications.announce("a", b"1", "somebody")
    world.bus.available = True
    world.listener.restored()
    ((event_type, data),) = world.bus.published
    world.listener.event(event_type, data, b"")
    world.turn()
    assert world.told(peer) == [continuity("a"), "a 1"]


def test_gaps_that_the_bus_could_not_take_are_told_to_every_node_before_an_event_that_waited() -> None:
    told: list[bytes] = []

    class Bus(HandBus):
        def publish(
            self, event_type: str, data: bytes, done: Callable[[Position | NexusError | None], None], metadata: bytes = b""
        ) -> None:
            told.append(data)
            super().publish(event_type, data, done, metadata)

        def send(self, node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
            told.append(body)
            super().send(node, body, done)

    bus, clock = Bus(), Clock()
    bus.available = False
    pubsub = assembled(bus, clock)
    publications, listener = pubsub.publications, pubsub.listener
    listener.lost()
    publications.missed("a")
    publications.announce("a", b"1", "somebody")
    assert told == []
    bus.available = True
    listener.restored()
    back = b'{"type":"back","origin":"%b","lost":0.0,"back":0.0,"answer":true}' % bus.node.encode()
    assert told == [b'{"type":"gap","event_type":"a"}', back, b"1"]


def test_every_node_gets_an_event_once_and_in_the_same_order() -> None:
    clock = Clock()
    memory = MemoryBroker(clock)
    heard: list[list[bytes]] = []
    publishers = []
    for node in ("one", "two"):
        bus = MemoryBus(memory, node)
        pubsub = assembled(bus, clock)
        bus.start(pubsub.listener)
        peer = RecordingPeer()
        heard.append(peer.delivered)
        reply = SubscribeReply(lambda _placed: None, lambda error: pytest.fail(str(error)))
        pubsub.subscriptions.subscribe(peer, peer.principal, SubscribeRequest(["a", "a.**", "*"]), reply)
        publishers.append(pubsub.publications)
    for number in range(4):
        payload = Payload.of_value(b"%d" % number)
        publishers[number % 2].publish(principal(), "a", payload, lambda _position: None, lambda error: pytest.fail(str(error)))
    clock.advance(0)
    clock.advance(0)
    assert [b"".join(each) for each in heard] == [b"a 0\na 1\na 2\na 3\n"] * 2
