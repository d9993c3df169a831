from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.realm import SubscribeReply, SubscribeRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.ids import number_of
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.settings import History, Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub import cluster as module
from nexus_tw.pubsub.cluster import AGAIN, ANY, PATIENCE
from nexus_tw.pubsub.service import PubSub
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.turn import Turn
from tests.fakes import AWAY, HandBus
from tests.fleet.pretend import alone
from tests.recording import RecordingEachEncoding, RecordingEncoding, RecordingPeer, principal

NOW = 1_800_000_000.5


class Node:
    """One node's part, on a bus of the test's choice."""

    def __init__(self, clock: Clock, bus: Any, peers: int = 0) -> None:
        self.clock = clock
        self.bus = bus
        self.peers = [RecordingPeer() for _ in range(peers)]
        self.said: list[Any] = []
        self.roster = Roster()
        pubsub = PubSub(
            bus,
            alone(),
            Turn(clock).add,
            clock,
            Spread(clock),
            Limits(),
            Metrics(),
            History(),
            self.roster,
            lambda: iter(self.peers),
        )
        self.subscriptions = pubsub.subscriptions
        self.nodes = pubsub.nodes
        self.publications = pubsub.publications
        self.listener = pubsub.listener
        bus.start(self.listener)

    def broadcast(self, data: bytes = b'{"x":1}') -> None:
        self.nodes.broadcast(Raw(data), self.said.append, lambda error: self.said.append(error.code))

    def subscriber(self, *events: str, peer: RecordingPeer | None = None) -> RecordingPeer:
        peer = peer or RecordingPeer()
        self.roster.add(peer)
        reply = SubscribeReply(lambda _placed: None, lambda error: pytest.fail(str(error)))
        self.subscriptions.subscribe(peer, peer.principal, SubscribeRequest(events), reply)
        return peer


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(NOW)
    return clock


def fleet(clock: Clock, *peers: int) -> list[Node]:
    broker = MemoryBroker(clock)
    return [Node(clock, MemoryBus(broker, f"node-{number}"), count) for number, count in enumerate(peers)]


def run(clock: Clock, turns: int = 5) -> None:
    for _ in range(turns):
        clock.advance(0)


def test_a_broadcast_reaches_everybody_on_every_node_once_and_is_counted(clock: Clock) -> None:
    one, two, three = fleet(clock, 2, 3, 0)
    two.broadcast()
    run(clock)
    assert two.said == [5]
    assert one.said == three.said == []
    message = {"type": "broadcast", "data": {"x": 1}, "timestamp": "2027-01-15T08:00:00.500Z"}
    for peer in one.peers + two.peers:
        assert [msgspec.json.decode(frame) for frame in peer.delivered] == [message]
    assert not clock.getDelayedCalls(), "nothing is left to wait for"


def test_a_broadcast_reaches_those_who_subscribe_to_it_and_nobody_twice(clock: Clock) -> None:
    one, two = fleet(clock, 2, 1)
    one.subscriber("nexus.broadcast", peer=one.peers[0])
    each = RecordingEachEncoding()
    listening = [
        one.subscriber("nexus.broadcast", peer=RecordingPeer(encoding=each)),
        two.subscriber("nexus.*", "nexus.broadcast", peer=RecordingPeer(encoding=each)),
    ]
    deaf = two.subscriber("other", peer=RecordingPeer(encoding=each))
    two.broadcast()
    run(clock)
    assert two.said == [5], "of three and two"
    for peer in one.peers + two.peers:
        assert [msgspec.json.decode(frame)["type"] for frame in peer.delivered] == ["broadcast"]
    named, all_of_nexus = (number_of(Pattern.parse(text)) for text in ("nexus.broadcast", "nexus.*"))
    assert listening[0].delivered == [b'%d nexus.broadcast {"x":1}\n' % named]
    assert sorted(b"".join(listening[1].delivered).splitlines()) == sorted(
        b'%d nexus.broadcast {"x":1}' % number for number in (named, all_of_nexus)
    )
    assert deaf.delivered == []


def test_broadcasts_at_once_are_counted_apart(clock: Clock) -> None:
    one, two = fleet(clock, 1, 2)
    one.broadcast()
    two.broadcast()
    one.broadcast()
    run(clock)
    assert (one.said, two.said) == ([3, 3], [3])


def test_a_broadcast_is_encoded_once_for_each_encoding(clock: Clock) -> None:
    (node,) = fleet(clock, 0)
    encodings = RecordingEncoding("one"), RecordingEncoding("two")
    node.peers = [RecordingPeer(encoding=encodings[number % 2]) for number in range(6)]
    node.broadcast()
    run(clock)
    assert len({id(peer.delivered[0]) for peer in node.peers}) == 2


def test_a_node_that_does_not_answer_is_not_waited_for_longer_than_patience(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    bus.takes = False
    node.broadcast()
    bus.unsent.pop()(2)
    node.nodes.message(b'{"type":"reached","number":1,"recipients":4}')
    clock.advance(PATIENCE - 0.1)
    assert node.said == []
    clock.advance(0.1)
    assert node.said == [4]
    node.nodes.message(b'{"type":"reached","number":1,"recipients":9}')
    assert node.said == [4], "too late"


def test_answers_that_come_before_the_bus_says_how_many_there_will_be_count(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    bus.takes = False
    node.broadcast()
    node.nodes.message(b'{"type":"reached","number":1,"recipients":4}')
    assert node.said == []
    bus.unsent.pop()(1)
    assert node.said == [4]
    assert not clock.getDelayedCalls()


@pytest.mark.parametrize("answer", [1, AWAY])
def test_a_bus_that_answers_after_patience_has_ended_changes_nothing(clock: Clock, answer: int | NexusError) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    bus.takes = False
    node.broadcast()
    clock.advance(PATIENCE)
    assert node.said == [0]
    bus.unsent.pop()(answer)
    assert node.said == [0]


def test_a_broadcast_while_the_bus_is_away_fails_and_leaves_nothing(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus, peers=1)
    bus.available = False
    node.broadcast()
    assert node.said == ["bus_unavailable"]
    assert not clock.getDelayedCalls() and not node.peers[0].delivered


def test_a_gap_is_told_on_every_node(clock: Clock) -> None:
    one, two = fleet(clock, 0, 0)
    here, there, elsewhere = one.subscriber("a.b"), two.subscriber("a.*"), two.subscriber("c")
    one.nodes.tell_gap("a.b")
    run(clock)
    for peer in (here, there):
        assert [msgspec.json.decode(frame) for frame in peer.delivered] == [
            {"type": "continuity", "eventType": "a.b", "recovered": False}
        ]
    assert not elsewhere.delivered


def test_a_gap_that_could_not_be_told_is_told_when_the_bus_is_back(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    bus.available = False
    node.nodes.tell_gap("a")
    bus.available = True
    node.listener.restored()
    assert bus.sent == [(None, b'{"type":"gap","event_type":"a"}')]


def test_events_of_the_bus_reach_the_subscribers(clock: Clock) -> None:
    (node,) = fleet(clock, 0)
    peer = node.subscriber("a")
    payload = Payload.of_value(b"1")
    node.publications.publish(principal(), "a", payload, lambda _position: None, lambda error: pytest.fail(str(error)))
    run(clock)
    assert peer.delivered == [b"a 1\n"]


def test_a_bus_that_was_away_is_told_to_the_subscribers(clock: Clock) -> None:
    (node,) = fleet(clock, 0)
    peer = node.subscriber("a")
    node.listener.lost()
    run(clock)
    assert not peer.delivered, "what is missed is told when it is over"
    node.listener.restored()
    run(clock)
    assert msgspec.json.decode(peer.delivered[0])["eventType"] == "a"


@given(st.binary(max_size=40))
def test_a_message_that_is_none_of_ours_is_dropped(body: bytes) -> None:
    node = Node(Clock(), HandBus(), peers=1)
    node.nodes.message(body)
    assert not node.peers[0].delivered


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'{"type":"broadcast"}',
        b'{"type":"other"}',
        b'{"type":"reached","number":"1","recipients":1}',
        b'{"type":"reached","number":77,"recipients":1}',
        b'{"type":"gap","event_type":1}',
        b'{"type":"gap","event_type":"\xff"}',
        b"[" * 100_000,
    ],
)
def test_messages_of_a_newer_or_broken_node_do_no_harm(clock: Clock, body: bytes) -> None:
    node = Node(clock, HandBus(), peers=1)
    node.nodes.message(body)
    assert not node.peers[0].delivered and not node.bus.sent


# --- gaps, as soon as the bus takes something again


def gaps(bus: HandBus) -> list[bytes]:
    return [body for _, body in bus.sent]


def a_gap(event_type: str) -> bytes:
    return b'{"type":"gap","event_type":"%b"}' % event_type.encode()


def test_an_event_that_the_bus_refused_is_told_as_a_gap_at_once_and_not_only_when_the_bus_was_away(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    bus.takes = False
    for event_type in ("a", "b", "a"):
        node.publications.announce(event_type, b"1", "somebody")
    while bus.untaken:
        bus.untaken.pop(0)(AWAY)
    assert gaps(bus) == [], "what one turn brings is told together"
    bus.takes = True
    clock.advance(0)
    assert gaps(bus) == [a_gap("a"), a_gap("b")]
    clock.advance(10)
    assert len(bus.sent) == 2 and not clock.getDelayedCalls(), "each once"
    node.publications.announce("a", b"2", "somebody")
    assert len(bus.sent) == 2


def test_a_gap_that_the_bus_refuses_is_told_again_until_it_takes_it(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    bus.takes = False
    node.nodes.tell_gap("a")
    clock.advance(0)
    for number in range(1, 4):
        assert gaps(bus) == [a_gap("a")] * number
        bus.unsent.pop()(AWAY)
        clock.advance(AGAIN / 2)
        assert len(bus.sent) == number, "not without a pause"
        clock.advance(AGAIN / 2)
    bus.unsent.pop()(1)
    clock.advance(10)
    assert gaps(bus) == [a_gap("a")] * 4 and not clock.getDelayedCalls()


def test_while_the_bus_is_away_gaps_are_kept_and_not_tried(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    bus.available = False
    node.nodes.tell_gap("a")
    assert not clock.getDelayedCalls()
    bus.available = True
    node.publications._outbox.put(1, ("own", b"1"), "somebody", 1, 1)
    node.listener.restored()
    assert gaps(bus) == [a_gap("a")] and bus.published == [("own", b"1")]


def test_gaps_of_too_many_types_become_one_of_any(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAPS", 3)
    broker = MemoryBroker(clock)
    one, two = Node(clock, MemoryBus(broker, "one")), Node(clock, MemoryBus(broker, "two"))
    peer = two.subscriber("x", "y.*")
    for number in range(5):
        one.nodes.tell_gap(f"t{number}")
    assert list(one.nodes._gaps) == [ANY]
    for _ in range(4):
        clock.advance(0)
    told = b"".join(peer.delivered)
    assert told.count(b"continuity") == 2 and b'"x"' in told and b'"y.*"' in told


def sent_to(bus: HandBus, kind: str) -> list[tuple[str | None, Any]]:
    messages = [(node, msgspec.json.decode(body)) for node, body in bus.sent]
    return [(node, message) for node, message in messages if message["type"] == kind]


def back(lost: float, back: float = 0, answer: bool = True) -> bytes:
    return msgspec.json.encode({"type": "back", "origin": "other", "lost": lost, "back": back, "answer": answer})


def test_a_node_that_comes_back_says_how_long_it_was_away(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    node.listener.lost()
    clock.advance(7)
    node.listener.restored()
    assert sent_to(bus, "back") == [(None, {"type": "back", "origin": bus.node, "lost": 7, "back": 0, "answer": True})]


def test_gaps_that_were_told_while_another_node_was_away_are_repeated_to_it_alone(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    for event_type in ("before", "meanwhile"):
        node.nodes.tell_gap(event_type)
        clock.advance(0)
        clock.advance(100)
    bus.sent.clear()
    node.nodes.message(back(lost=150))
    assert bus.sent == [("other", a_gap("meanwhile"))]
    bus.sent.clear()
    node.nodes.message(back(lost=150, back=120))
    assert bus.sent == [], "it was back before"


def test_two_nodes_that_come_back_one_after_the_other_learn_of_each_others_gaps(clock: Clock) -> None:
    """The first one's messages reach nobody; it answers the second one, which may have told gaps before it was lost itself."""
    bus = HandBus()
    node = Node(clock, bus)
    node.listener.lost()
    clock.advance(3)
    node.listener.restored()
    clock.advance(1)
    bus.sent.clear()
    node.nodes.message(back(lost=2))
    ((to, message),) = sent_to(bus, "back")
    assert (to, message["lost"], message["back"], message["answer"]) == ("other", 4, 1, False)
    bus.sent.clear()
    node.nodes.message(back(lost=2, answer=False))
    assert not bus.sent, "an answer is not answered"


def test_a_node_does_not_answer_itself(clock: Clock) -> None:
    bus = HandBus()
    node = Node(clock, bus)
    node.nodes.tell_gap("a")
    clock.advance(0)
    bus.sent.clear()
    node.nodes.message(back(lost=9).replace(b"other", bus.node.encode()))
    assert not bus.sent


def test_remembered_gaps_of_too_many_types_become_one_of_any(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAPS", 3)
    bus = HandBus()
    node = Node(clock, bus)
    for number in range(5):
        node.nodes.tell_gap(f"t{number}")
        clock.advance(0)
    bus.sent.clear()
    node.nodes.message(back(lost=9))
    assert (("other", a_gap(ANY)) in bus.sent) and len(bus.sent) <= 3
