"""Arrivals from the bus: events with their metadata, and gaps."""

from __future__ import annotations

import json

import pytest

from nexus_tw.interfaces.peers import Subscription
from nexus_tw.model.events import Event, EventMetadata, Publisher, Rule, encode_metadata
from nexus_tw.model.ids import number_of
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from tests.pubsub.world import World, continuity
from tests.recording import RecordingEachEncoding, RecordingEncoding, RecordingPeer, principal


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer() -> RecordingPeer:
    return RecordingPeer()


# --- gaps


def test_when_the_bus_is_back_every_subscriber_is_told_of_each_of_its_patterns(world: World) -> None:
    one, two, three = RecordingPeer(), RecordingPeer(), RecordingPeer()
    world.subscribe(one, "a", "b.*")
    world.subscribe(one, "a", k=1)
    world.subscribe(two, "a", k=1)
    world.listener.restored()
    world.turn()
    assert sorted(world.told(one), key=str) == [continuity("a"), continuity("b.*")]
    assert world.told(two) == [continuity("a")]
    assert world.told(three) == []


def test_a_gap_is_told_once_to_everyone_who_would_have_got_the_event(world: World) -> None:
    one, two, three = RecordingPeer(), RecordingPeer(), RecordingPeer()
    world.subscribe(one, "a.*", "a.b", "**")
    world.subscribe(two, "a.b", k="it would have depended on the filter")
    world.subscribe(three, "b")
    world.arrivals.gap("a.b")
    world.turn()
    assert world.told(one) == world.told(two) == [continuity("a.b")]
    assert world.told(three) == []


def test_a_gap_stands_where_the_events_are_missing(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "a")
    world.arrivals.event("a", b"1", b"", None)
    world.arrivals.gap("a")
    world.arrivals.event("a", b"2", b"", None)
    world.turn()
    assert world.told(peer) == ["a 1", continuity("a"), "a 2"]


# --- what goes with an event


def test_an_event_reaches_the_encodings_with_its_position_or_with_none(world: World) -> None:
    class Positions(RecordingEncoding):
        def event(self, event: Event, _subscription: Subscription) -> bytes:
            return f"{event.position}\n".encode()

    peer = RecordingPeer(encoding=Positions())
    world.subscribe(peer, "a")
    for metadata in (b"", encode_metadata(EventMetadata(7))):
        world.arrivals.event("a", b"1", metadata, Position("e.1", 5))
        world.arrivals.event("a", b"1", metadata)
    world.turn()
    assert world.told(peer) == ["e.1:5", "None", "e.1:5", "None"]


class KeepingEncoding(RecordingEncoding):
    """Keeps the events that it is asked to encode."""

    def __init__(self) -> None:
        super().__init__("keeping")
        self.events: list[Event] = []

    def event(self, event: Event, subscription: Subscription) -> bytes:
        self.events.append(event)
        return super().event(event, subscription)


def test_what_goes_with_an_event_travels_with_it(world: World) -> None:
    metadata = EventMetadata(7, "value", Publisher(1, "s", "r"), Rule((1,)), {"ppt_scheme": "x"})
    world.publish(principal(), "a", b"{}", metadata)
    world.publish(principal(), "a", b"{}")
    assert world.bus.metadata == [encode_metadata(metadata), b""]
    encoding = KeepingEncoding()
    world.subscribe(RecordingPeer(encoding=encoding), "a")
    for sent in world.bus.metadata:
        world.event("a", b"{}", sent)
    with_it, without = encoding.events
    assert with_it.metadata == metadata and with_it.payload.shape == "value" and with_it.publication == 7
    assert without.metadata is None and without.payload.shape == "natural"


def test_the_publisher_is_left_out_where_it_joined_and_nobody_else(world: World) -> None:
    publisher, other = RecordingPeer(), RecordingPeer()
    for peer in (publisher, other):
        world.roster.add(peer)
        world.subscribe(peer, "a")
    world.event("a", b"1", EventMetadata(1, rule=Rule((publisher.number, 2**53))))
    world.event("a", b"2", EventMetadata(2))
    assert (world.told(publisher), world.told(other)) == (["a 2"], ["a 1", "a 2"])


def test_one_left_out_here_who_subscribes_to_nothing_is_no_matter(world: World, peer: RecordingPeer) -> None:
    publisher = RecordingPeer()
    world.roster.add(publisher)
    world.subscribe(peer, "a")
    world.event("a", b"1", EventMetadata(1, rule=Rule((publisher.number,))))
    assert world.told(peer) == ["a 1"]


@pytest.mark.parametrize(
    "metadata",
    [b"x", b"{}", b'{"publication":1,"rule":{"exclude":1}}', b'{"publication":1,"shape":"pair"}', b"[" * 9999],
)
def test_an_event_of_which_it_cannot_be_read_whom_it_is_for_reaches_nobody(
    world: World, peer: RecordingPeer, metadata: bytes
) -> None:
    world.subscribe(peer, "a")
    world.event("a", b"1", metadata)
    assert world.told(peer) == [continuity("a")], "but it is told as missing"
    assert world.metrics.events_dropped == {"about": 1} and world.metrics.events_received == 1
    world.event("b", b"1", metadata)
    assert world.metrics.events_dropped == {"about": 1}, "nobody looks at what nobody here wants"


def test_gaps_are_events_to_those_who_have_no_message_for_them(world: World) -> None:
    deaf, listening = [RecordingPeer(encoding=RecordingEachEncoding()) for _ in range(2)]
    peer = RecordingPeer()
    for each in (deaf, listening, peer):
        world.subscribe(each, "a")
    world.subscribe(listening, "nexus.continuity")
    world.arrivals.gap("a")
    world.turn()
    assert world.told(peer) == [continuity("a")]
    assert world.told(deaf) == []
    numbered = number_of(Pattern.parse("nexus.continuity"))
    assert world.told(listening) == [f'{numbered} nexus.continuity {{"eventType":"a","recovered":false}}']
    world.arrivals.gap("never subscribed to")
    world.listener.restored()
    world.turn()
    lost = [json.loads(line.partition("continuity ")[2])["eventType"] for line in world.told(listening)]
    assert lost == ["a", "never subscribed to", "a", "nexus.continuity"]
