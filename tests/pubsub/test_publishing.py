"""Publications on their way to the bus."""

from __future__ import annotations

import pytest

from nexus_tw.model.positions import Position
from nexus_tw.model.settings import Role
from nexus_tw.pubsub import publishing as module
from tests.fakes import AWAY
from tests.pubsub.world import World
from tests.recording import RecordingPeer, principal


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer() -> RecordingPeer:
    return RecordingPeer()


def test_an_event_is_published_with_its_data_as_it_came(world: World) -> None:
    world.publish(principal(), "task.updated", b' {"a" : 1} ')
    assert world.bus.published == [("task.updated", b' {"a" : 1} ')]
    assert world.said == ["published"]
    assert world.metrics.events_published == 1


def test_a_publisher_is_answered_once_the_bus_has_taken_it(world: World) -> None:
    world.bus.takes = False
    for _ in range(3):
        world.publish(principal(), "a")
    assert world.said == []
    world.bus.untaken[0](None)
    world.bus.untaken[1](AWAY)
    world.bus.untaken[2](Position("e", 1))
    assert world.said == ["published", ("publish", "bus_unavailable", "The event bus is away"), "published"]
    assert world.metrics.events_published == 2


def test_what_is_published_reaches_subscribers_only_through_the_bus(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "a")
    world.publish(principal(), "a", b"1")
    world.turn()
    assert world.told(peer) == []
    world.event("a", b"1")
    assert world.told(peer) == ["a 1"]
    assert (world.metrics.events_received, world.metrics.events_delivered) == (1, 1)


@pytest.mark.parametrize(
    ("event_type", "code", "message"),
    [
        ("nexus.x", "forbidden", "Not allowed to publish nexus.x: the name is reserved"),
        ("wamp.x", "forbidden", "Not allowed to publish wamp.x: the name is reserved"),
        ("secret", "forbidden", "Not allowed to publish secret"),
        ("", "invalid_message", "Invalid message format: eventType: must not be empty"),
        ("task.*", "invalid_message", None),
    ],
)
def test_what_may_not_be_published_is_refused_and_goes_nowhere(event_type: str, code: str, message: str | None) -> None:
    world = World()
    who = principal(role=Role(publish=("task.**", "nexus.**", "wamp.**")))
    world.publish(who, event_type)
    ((_, said_code, said),) = world.said
    assert said_code == code
    assert message is None or said == message
    assert not world.bus.published


# --- the server's own events


def test_the_servers_own_events_may_have_reserved_names_and_need_no_right(world: World) -> None:
    world.publications.announce("nexus.something", b"1", "somebody")
    assert world.bus.published == [("nexus.something", b"1")]
    assert world.metrics.events_published == 1


def test_what_is_announced_while_the_bus_is_away_is_sent_in_order_when_it_is_back(world: World) -> None:
    world.bus.available = False
    world.publications.announce("a", b"1", "somebody")
    world.publications.announce("b", b"2", "somebody")
    world.bus.available = True
    world.publications.announce("a", b"3", "somebody")
    assert world.bus.published == [], "nothing overtakes what waits"
    world.listener.restored()
    assert world.bus.published == [("a", b"1"), ("b", b"2"), ("a", b"3")]
    world.publications.announce("a", b"4", "somebody")
    assert world.bus.published[-1] == ("a", b"4")
    assert world.gaps == []


def test_past_its_limit_the_outbox_drops_the_oldest_and_says_so_when_the_bus_is_back() -> None:
    world = World(outbox=2)
    world.bus.available = False
    for number in range(4):
        world.publications.announce("ab"[number % 2], b"%d" % number, "somebody")
    assert world.metrics.events_dropped == {"outbox": 2}
    assert world.gaps == ["a", "b"], "for the one who tells them once the bus takes that"
    world.bus.available = True
    world.listener.restored()
    assert world.gaps == ["a", "b"]
    assert world.bus.published == [("a", b"2"), ("b", b"3")]
    world.listener.restored()
    assert world.gaps == ["a", "b"], "each gap is told once"


def test_the_outbox_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTBOX_BYTES", 10)
    world = World()
    world.bus.available = False
    for data in (b"12345", b"12345", b"1", b"12345678901"):
        world.publications.announce("a", data, "somebody")
    assert world.metrics.events_dropped == {"outbox": 4}
    world.publications.announce("a", b"0123456789", "somebody")
    world.bus.available = True
    world.listener.restored()
    assert world.bus.published == [("a", b"0123456789")]
    world.bus.available = False
    world.publications.announce("a", b"0123456789", "somebody")
    assert world.metrics.events_dropped == {"outbox": 4}, "what was sent counts no longer"


def test_events_that_one_subject_causes_while_the_bus_is_away_push_out_only_its_own() -> None:
    world = World(outbox=8)
    world.bus.available = False
    for number in range(2):
        world.publications.announce("other", b"%d" % number, "other")
    for number in range(20):
        world.publications.announce("greedy", b"%d" % number, "greedy")
    assert world.metrics.events_dropped == {"outbox": 14} and set(world.gaps) == {"greedy"}
    world.bus.available = True
    world.listener.restored()
    assert world.bus.published == [
        *(("other", b"%d" % number) for number in range(2)),
        *(("greedy", b"%d" % number) for number in range(14, 20)),
    ]


def test_without_an_outbox_nothing_waits_and_the_loss_is_told() -> None:
    world = World(outbox=0)
    world.bus.available = False
    world.publications.announce("a", b"1", "somebody")
    assert world.metrics.events_dropped == {"outbox": 1} and world.gaps == ["a"]


def test_an_announcement_that_the_bus_could_not_take_is_told_as_a_gap(world: World) -> None:
    world.bus.takes = False
    world.publications.announce("a", b"1", "somebody")
    world.bus.untaken.pop()(AWAY)
    assert world.metrics.events_dropped == {"bus": 1}
    world.listener.restored()
    assert world.gaps == ["a"]
