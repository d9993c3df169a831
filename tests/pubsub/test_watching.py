"""Meta events over several nodes: whoever watches on any of them is told once of what happens on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from twisted.internet.task import Clock

from nexus_tw.model.ids import number_of
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern, parse_pattern
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub import watching
from nexus_tw.pubsub.groups import Subscriber
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.pubsub.watching import NOBODY, RETURN, SETTLING, Watching
from tests.fleet.pretend import Pretended
from tests.recording import RecordingPeer, principal

EVERYTHING = ("session.on_join", "session.on_leave", "subscription.**")
A, B = (number_of(Pattern.parse(text)) for text in "ab")


class Node:
    """One node: its sessions, their subscriptions, and one that watches."""

    def __init__(self, world: Pretended, clock: Clock, name: str) -> None:
        self.name = name
        self.fleet = world.node(name)
        self.metrics = Metrics()
        self.waiting: list[Callable[[], None]] = []
        self.hub = Hub(self.waiting.append, self.metrics, clock.seconds)
        self.roster = Roster()
        self.watching = Watching(self.fleet, self.hub, self.roster, clock, self.metrics)
        self.meta = Meta(self.hub, self.watching)
        self.watcher = RecordingPeer()
        self.watches = Subscriber(self.watcher)
        self.peers: dict[RecordingPeer, Subscriber] = {}
        self.ready: list[str] = []
        world.join(self.fleet)

    def join(self, subject: str = "somebody") -> RecordingPeer:
        peer = RecordingPeer(who=principal(subject))
        self.peers[peer] = Subscriber(peer)
        self.roster.add(peer)
        self.meta.joined(peer)
        return peer

    def leave(self, peer: RecordingPeer) -> None:
        self.unsubscribe(peer, *[Pattern.parse(text) for text in self.peers[peer].pairs])
        del self.peers[peer]
        self.roster.remove(peer)
        self.meta.left(peer)

    def subscribe(self, peer: RecordingPeer, *texts: str) -> None:
        for text in texts:
            pattern = Pattern.parse(text)
            created = self.hub.bucket(pattern) is None
            self.hub.subscribe(self.peers[peer], [(pattern, None)])
            bucket = self.hub.bucket(pattern)
            assert bucket is not None
            self.meta.subscribed(peer, bucket, created)

    def unsubscribe(self, peer: RecordingPeer, *patterns: Pattern) -> None:
        for pattern in patterns:
            bucket = self.hub.bucket(pattern)
            assert bucket is not None
            self.hub.unsubscribe(self.peers[peer], [pattern.text])
            self.meta.unsubscribed(peer, bucket, not bucket.groups)

    def watch(self, *topics: str) -> None:
        for topic in topics:
            pattern = parse_pattern(f"wamp.{topic}", "topic")
            self.watching.watch(pattern, lambda topic=topic: self.ready.append(topic))  # type: ignore[misc]
            self.hub.subscribe(self.watches, [(pattern, None)])

    def unwatch(self, *topics: str) -> None:
        self.hub.unsubscribe(self.watches, [f"wamp.{topic}" for topic in topics])
        for topic in topics:
            self.watching.unwatch(parse_pattern(f"wamp.{topic}", "topic"))

    def told(self) -> list[tuple[str, list[Any]]]:
        """Topic and arguments of each meta event since the last look."""
        self.hub.flush()
        lines = [line.split(maxsplit=1) for line in b"".join(self.watcher.delivered).splitlines()]
        self.watcher.delivered.clear()
        return [(topic.decode().removeprefix("wamp."), msgspec.json.decode(data)["args"]) for topic, data in lines]


class Fleet:
    """Nodes that have known each other for a while."""

    def __init__(self, *names: str) -> None:
        self.clock = Clock()
        self.world = Pretended()
        self.nodes = {name: self.add(name) for name in names}
        self.clock.advance(SETTLING)

    def add(self, name: str) -> Node:
        return Node(self.world, self.clock, name)

    def turn(self) -> None:
        self.world.deliver()
        self.clock.advance(0)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet("one", "two", "three")


def test_what_happens_on_any_node_is_told_once_to_those_who_watch_on_any(fleet: Fleet) -> None:
    one, two, three = fleet.nodes.values()
    for node in (one, two):
        node.watch(*EVERYTHING)
    fleet.turn()
    peer = three.join("sally")
    three.subscribe(peer, "a")
    three.unsubscribe(peer, Pattern.parse("a"))
    three.leave(peer)
    mine = one.join("sam")
    fleet.turn()
    for node in (one, two):
        told = node.told()
        joins = [args[0]["authid"] for topic, args in told if topic == "session.on_join"]
        assert sorted(joins) == ["sally", "sam"]
        rest = [(topic, args) for topic, args in told if topic != "session.on_join"]
        assert rest[0][0] == "subscription.on_create" and rest[0][1][0] == peer.number
        assert rest[0][1][1]["id"] == A and rest[0][1][1]["uri"] == "a"
        assert rest[1:] == [
            ("subscription.on_subscribe", [peer.number, A]),
            ("subscription.on_unsubscribe", [peer.number, A]),
            ("subscription.on_delete", [peer.number, A]),
            ("session.on_leave", [peer.number, "sally", "test"]),
        ]
    assert mine.number and three.told() == []


def test_a_subscription_begins_with_the_first_and_ends_with_the_last_in_the_realm(fleet: Fleet) -> None:
    one, two, three = fleet.nodes.values()
    before = two.join()
    two.subscribe(before, "b")
    one.watch("subscription.on_create", "subscription.on_delete")
    fleet.turn()
    peers = {node: node.join() for node in fleet.nodes.values()}
    for node in (two, one, three):
        node.subscribe(peers[node], "a", "b")
        fleet.turn()
    assert [(topic, args[1]["id"]) for topic, args in one.told()] == [("subscription.on_create", A)]
    for node in (two, three, one):
        node.unsubscribe(peers[node], Pattern.parse("a"), Pattern.parse("b"))
        fleet.turn()
    assert one.told() == [("subscription.on_delete", [peers[one].number, A])]
    two.unsubscribe(before, Pattern.parse("b"))
    fleet.turn()
    assert one.told() == [("subscription.on_delete", [before.number, B])]


def test_a_subscriber_to_meta_events_is_answered_once_the_others_know_of_it(fleet: Fleet) -> None:
    one, two, _ = fleet.nodes.values()
    one.watch("session.on_join")
    assert one.ready == []
    fleet.turn()
    assert one.ready == ["session.on_join"]
    one.watch("session.*")  # which asks for on_leave too
    assert one.ready == ["session.on_join"]
    fleet.turn()
    one.watch("session.on_leave")
    assert one.ready == ["session.on_join", "session.*", "session.on_leave"], "nothing new for the others"
    two.join()
    fleet.turn()
    assert [topic for topic, _ in one.told()] == ["session.on_join"]


def test_where_nobody_watches_nothing_is_told(fleet: Fleet) -> None:
    one, two, _ = fleet.nodes.values()
    one.watch("session.on_leave")
    fleet.turn()
    one.unwatch("session.on_leave")
    fleet.turn()
    sent: list[bytes] = []
    two.fleet.tell = lambda node, part, body: sent.append(body)  # type: ignore[method-assign]
    two.leave(two.join())
    assert sent == [] and not two.watching.others
    assert one.metrics.meta_mirrored == 0


def test_what_ends_with_a_node_is_told_by_those_that_stay(fleet: Fleet) -> None:
    one, two, three = fleet.nodes.values()
    old = two.join("old")
    two.subscribe(old, "a", "b")
    for node in (one, three):
        node.watch("session.on_leave", "subscription.on_delete")
    fleet.turn()
    young, other = two.join("young"), three.join()
    three.subscribe(other, "b")
    fleet.turn()
    assert one.metrics.meta_mirrored == 6
    fleet.world.kill("two")
    fleet.turn()
    for node in (one, three):
        assert sorted(node.told()) == [
            ("session.on_leave", [number, authid, "test"])
            for number, authid in sorted([(old.number, "old"), (young.number, "young")])
        ] + [("subscription.on_delete", [NOBODY, A])]
    assert one.metrics.meta_mirrored == 2


def test_the_sessions_of_a_node_that_joins_are_news(fleet: Fleet) -> None:
    one = fleet.nodes["one"]
    one.watch("session.on_join", "subscription.on_create")
    fleet.turn()
    late = fleet.add("late")
    peer = late.join("early bird")
    late.subscribe(peer, "a")
    fleet.turn()
    told = one.told()
    assert [(topic, args[-1].get("authid", args[-1].get("uri"))) for topic, args in told] == [
        ("session.on_join", "early bird"),
        ("subscription.on_create", "a"),
    ]


def test_the_sessions_that_a_node_finds_at_its_own_start_are_no_news(fleet: Fleet) -> None:
    fleet.nodes["one"].join()
    late = fleet.add("late")
    late.watch("session.on_join")
    fleet.turn()
    assert late.told() == []
    fleet.nodes["one"].join("news")
    fleet.turn()
    assert [args[0]["authid"] for _, args in late.told()] == ["news"]


def test_a_node_that_was_given_up_tells_what_it_has_missed_and_nothing_else(fleet: Fleet) -> None:
    one, two, three = fleet.nodes.values()
    stays, leaves = two.join("stays"), two.join("leaves")
    gone = three.join("gone with its node")
    one.watch("session.on_join", "session.on_leave")
    fleet.turn()
    # It loses sight of the others, and finds those that are there again under its new name.
    for name in ("two", "three"):
        one.fleet.loses(name, False)
        fleet.nodes[name].fleet.loses("one", False)
    one.watching.renewed()
    two.leave(leaves)
    comes = two.join("comes")
    one.fleet.sees("two")
    fleet.nodes["two"].fleet.sees("one")
    fleet.turn()
    assert [(topic, args[0] if topic.endswith("leave") else args[0]["session"]) for topic, args in one.told()] == [
        ("session.on_leave", leaves.number),
        ("session.on_join", comes.number),
    ]
    fleet.clock.advance(RETURN)
    assert one.told() == [("session.on_leave", [gone.number, "gone with its node", "test"])]
    assert stays.number


def test_a_watching_node_without_room_is_told_later_what_has_begun_and_ended(fleet: Fleet) -> None:
    one, two, _ = fleet.nodes.values()
    leaves = two.join("leaves")
    one.watch(*EVERYTHING)
    fleet.turn()
    two.fleet.full.add("one")
    two.leave(leaves)
    missed = two.join("missed")
    two.subscribe(missed, "a")
    two.leave(two.join("came and went"))
    fleet.turn()
    assert one.told() == []
    two.fleet.full.clear()
    two.subscribe(missed, "b")
    fleet.turn()
    assert sorted(topic for topic, _ in one.told()) == [
        "session.on_join",
        "session.on_leave",
        "subscription.on_create",
        "subscription.on_create",
        "subscription.on_subscribe",
    ]
    two.leave(missed)
    fleet.turn()
    assert [topic for topic, _ in one.told()].count("subscription.on_unsubscribe") == 2


def test_a_long_list_is_told_in_parts_and_up_to_a_bound(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "ROWS", 3)
    one, two, _ = fleet.nodes.values()
    peers = [two.join(f"peer {number}") for number in range(10)]
    one.watch("session.on_leave")
    fleet.turn()
    assert one.metrics.meta_mirrored == 10
    one.unwatch("session.on_leave")
    fleet.turn()
    monkeypatch.setattr(watching, "LISTED", 400)
    one.watch("session.on_leave")
    fleet.turn()
    assert 0 < one.metrics.meta_mirrored < 10
    for peer in peers:
        two.leave(peer)
    fleet.turn()
    assert len(one.told()) == 10, "each of which is told of all the same"


class MetaEventsAgainstModel(RuleBasedStateMachine):
    """For whoever watches all the time, beginnings and ends alternate for each session and subscription, and agree with what
    there is."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet("one", "two")
        self.watching = self.fleet.nodes["one"]
        self.watching.watch("session.on_join", "session.on_leave", "subscription.on_create", "subscription.on_delete")
        self.fleet.turn()
        self.names = 2
        self.sessions: set[int] = set()
        self.subscriptions: set[int] = set()

    def node(self, number: int) -> Node:
        return list(self.fleet.nodes.values())[number % len(self.fleet.nodes)]

    @rule(number=st.integers(0, 5), text=st.sampled_from("ab"))
    def join(self, number: int, text: str) -> None:
        node = self.node(number)
        node.subscribe(node.join(), text)

    @rule(number=st.integers(0, 5), which=st.integers(0, 5))
    def leave(self, number: int, which: int) -> None:
        node = self.node(number)
        if node.peers:
            node.leave(list(node.peers)[which % len(node.peers)])

    @rule()
    def start_node(self) -> None:
        self.names += 1
        if len(self.fleet.nodes) < 4:
            self.fleet.nodes[f"node {self.names}"] = self.fleet.add(f"node {self.names}")

    @rule(number=st.integers(1, 5))
    def kill_node(self, number: int) -> None:
        node = self.node(number)
        if node is not self.watching:
            del self.fleet.nodes[node.name]
            self.fleet.world.kill(node.name)

    def teardown(self) -> None:
        self.deliver()

    @rule()
    def deliver(self) -> None:
        self.fleet.turn()
        for topic, args in self.watching.told():
            known = self.sessions if topic.startswith("session") else self.subscriptions
            if topic == "session.on_join":
                number = args[0]["session"]
            else:
                number = args[1]["id"] if topic == "subscription.on_create" else args[-1] if "sub" in topic else args[0]
            if topic.endswith(("join", "create")):
                assert number not in known, topic
                known.add(number)
            else:
                known.remove(number)

        nodes = self.fleet.nodes.values()
        assert self.sessions == {peer.number for node in nodes for peer in node.peers}
        held = {text for node in nodes for subscriber in node.peers.values() for text in subscriber.pairs}
        assert self.subscriptions == {number_of(Pattern.parse(text)) for text in held}


TestMetaEventsAgainstModel = MetaEventsAgainstModel.TestCase
TestMetaEventsAgainstModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
