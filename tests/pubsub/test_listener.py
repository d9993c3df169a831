"""What a realm hears from its bus, and who is told of it first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.realm import SubscribeReply, SubscribeRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Payload
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.arriving import Arrivals
from nexus_tw.pubsub.cluster import Nodes
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.listener import Listener
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.pubsub.publishing import Publications
from nexus_tw.pubsub.subscribing import Subscriptions
from nexus_tw.runtime.turn import Turn
from tests.fakes import HandBus
from tests.pubsub.world import World, continuity
from tests.recording import RecordingPeer, principal


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
    hub = Hub(Turn(clock).add, Metrics(), clock.seconds)
    subscriptions = Subscriptions(bus, hub, Limits(), Metrics(), Meta(hub))
    arrivals = Arrivals(hub, subscriptions, Roster(), Metrics())
    nodes = Nodes(bus, clock, lambda: (), arrivals)
    publications = Publications(bus, Limits(), Metrics(), nodes.tell_gap)
    listener = Listener(arrivals, publications, nodes)
    listener.lost()
    publications.missed("a")
    publications.announce("a", b"1", "somebody")
    assert told == []
    bus.available = True
    listener.restored()
    assert told == [b'{"type":"gap","event_type":"a"}', b"1"]


def test_every_node_gets_an_event_once_and_in_the_same_order() -> None:
    clock = Clock()
    memory = MemoryBroker(clock)
    heard: list[list[bytes]] = []
    publishers = []
    for node in ("one", "two"):
        bus = MemoryBus(memory, node)
        hub = Hub(Turn(clock).add, Metrics(), clock.seconds)
        subscriptions = Subscriptions(bus, hub, Limits(), Metrics(), Meta(hub))
        arrivals = Arrivals(hub, subscriptions, Roster(), Metrics())
        between = Nodes(bus, clock, lambda: (), arrivals)
        publications = Publications(bus, Limits(), Metrics(), between.tell_gap)
        bus.start(Listener(arrivals, publications, between))
        peer = RecordingPeer()
        heard.append(peer.delivered)
        reply = SubscribeReply(lambda: None, lambda error: pytest.fail(str(error)))
        subscriptions.subscribe(peer, peer.principal, SubscribeRequest(["a", "a.**", "*"]), reply)
        publishers.append(publications)
    for number in range(4):
        payload = Payload.of_value(b"%d" % number)
        publishers[number % 2].publish(principal(), "a", payload, lambda: None, lambda error: pytest.fail(str(error)))
    clock.advance(0)
    clock.advance(0)
    assert [b"".join(each) for each in heard] == [b"a 0\na 1\na 2\na 3\n"] * 2
