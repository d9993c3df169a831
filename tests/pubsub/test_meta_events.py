from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from twisted.internet.task import Clock

from nexus_tw.commands.registry import SharedRegistration
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern, parse_pattern
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.presence.sessions import Roster
from nexus_tw.protocols.wamp.uris import pattern_of
from nexus_tw.pubsub.facts import SessionFacts, SubscriptionFacts
from nexus_tw.pubsub.groups import Bucket, Subscriber
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.pubsub.watching import Watching
from tests.fleet.pretend import alone
from tests.recording import RecordingPeer

CREATED = 1_800_000_000_500  # ms
WHEN = "2027-01-15T08:00:00.500Z"


class World:
    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.hub = Hub(self.waiting.append, Metrics(), lambda: CREATED / 1000)
        self.meta = Meta(self.hub, Watching(alone(), self.hub, Roster(), Clock(), Metrics()))
        self.watcher = RecordingPeer()

    def watch(self, *topics: str) -> None:
        pairs = [(parse_pattern(f"wamp.{topic}", "topic"), None) for topic in topics]
        self.hub.subscribe(Subscriber(self.watcher), pairs)

    def told(self) -> list[tuple[str, list[Any]]]:
        """Topic and positional arguments of each event since the last look; meta events have no others."""
        self.hub.flush()
        lines = [line.split(maxsplit=1) for line in b"".join(self.watcher.delivered).splitlines()]
        self.watcher.delivered.clear()
        found = [(topic.decode().removeprefix("wamp."), msgspec.json.decode(data)) for topic, data in lines]
        assert all(data.keys() == {"args", "kwargs"} and data["kwargs"] == {} for _, data in found)
        return [(topic, data["args"]) for topic, data in found]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer() -> RecordingPeer:
    return RecordingPeer(who=Principal("sally", "clerk", ADMIN), address="10.0.0.1")


def bucket(pattern: str, number: int = 7) -> Bucket:
    return Bucket(Pattern.parse(pattern), number, CREATED)


def everything(meta: Meta, peer: RecordingPeer) -> None:
    registration = SharedRegistration(9, pattern_of("com..x", "wildcard"), "random", CREATED)
    meta.joined(peer)
    meta.subscribed(peer, bucket("a"), True)
    meta.subscribed(peer, bucket("a"), False)
    meta.unsubscribed(peer, bucket("a"), False)
    meta.unsubscribed(peer, bucket("a"), True)
    meta.registered(peer, registration, True)
    meta.registered(peer, registration, False)
    meta.unregistered(peer, registration, False)
    meta.unregistered(peer, registration, True)
    meta.left(peer)


def test_each_is_told_of_in_the_words_of_the_specification(world: World, peer: RecordingPeer) -> None:
    world.watch("**")
    everything(world.meta, peer)
    session = {
        "session": peer.number,
        "authid": "sally",
        "authrole": "clerk",
        "authmethod": "ticket",
        "authprovider": "test",
        "transport": {"peer": "10.0.0.1", "protocol": "recording"},
    }
    subscription = {"id": 7, "created": WHEN, "uri": "a", "match": "exact"}
    registration = {"id": 9, "created": WHEN, "uri": "com..x", "match": "wildcard", "invoke": "random"}
    assert world.told() == [
        ("session.on_join", [session]),
        ("subscription.on_create", [peer.number, subscription]),
        ("subscription.on_subscribe", [peer.number, 7]),
        ("subscription.on_subscribe", [peer.number, 7]),
        ("subscription.on_unsubscribe", [peer.number, 7]),
        ("subscription.on_unsubscribe", [peer.number, 7]),
        ("subscription.on_delete", [peer.number, 7]),
        ("registration.on_create", [peer.number, registration]),
        ("registration.on_register", [peer.number, 9]),
        ("registration.on_register", [peer.number, 9]),
        ("registration.on_unregister", [peer.number, 9]),
        ("registration.on_unregister", [peer.number, 9]),
        ("registration.on_delete", [peer.number, 9]),
        ("session.on_leave", [peer.number, "sally", "clerk"]),
    ]


def test_who_watches_one_thing_is_told_of_that_alone(world: World, peer: RecordingPeer) -> None:
    world.watch("subscription.on_delete", "session.on_leave")
    everything(world.meta, peer)
    assert [topic for topic, _ in world.told()] == ["subscription.on_delete", "session.on_leave"]


def test_nothing_is_done_where_nobody_watches(world: World) -> None:
    class Untouchable(RecordingPeer):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"{name} was looked at for nobody")

    everything(world.meta, Untouchable.__new__(Untouchable))
    assert not world.waiting


def test_of_those_who_watch_nothing_is_told(world: World, peer: RecordingPeer) -> None:
    world.watch("**")
    world.meta.subscribed(peer, bucket("wamp.session.on_join"), True)
    world.meta.unsubscribed(peer, bucket("wamp.session.on_join"), True)
    assert world.told() == []


@pytest.mark.parametrize(
    ("pattern", "match", "uri"),
    [
        (pattern_of("a.b", "exact"), "exact", "a.b"),
        (pattern_of("a.b", "prefix"), "prefix", "a.b"),
        (pattern_of("", "prefix"), "prefix", ""),
        (pattern_of("a..b", "wildcard"), "wildcard", "a..b"),
        (pattern_of("a.b", "wildcard"), "wildcard", "a.b"),
        (Pattern.parse("a.**"), "prefix", "a."),
    ],
)
def test_subscriptions_are_told_by_uri_and_match_policy(pattern: Pattern, match: str, uri: str) -> None:
    created = "1970-01-01T00:00:00.000Z"
    told = SubscriptionFacts.of(Bucket(pattern, 3, 0)).details
    assert told == {"id": 3, "created": created, "uri": uri, "match": match}


def test_of_a_session_no_more_is_told_than_these(peer: RecordingPeer) -> None:
    told = SessionFacts.of(peer).details
    assert told.keys() == {"session", "authid", "authrole", "authmethod", "authprovider", "transport"}
