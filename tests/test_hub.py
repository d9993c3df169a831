"""The hub against a model: who subscribes to what when an event comes decides who gets it, and nothing else does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nexus_tw.encodings import JSON_TEXT
from nexus_tw.filters import Filter
from nexus_tw.hub import Hub, Subscriber
from nexus_tw.metrics import Metrics
from nexus_tw.topics import Pattern
from tests.recording import RecordingEncoding, RecordingPeer

Pair = tuple[str, int]

PATTERNS = ("a", "b", "a.b", "a.*", "*.b", "a.**", "**", "*")
TYPES = ("a", "b", "a.b", "a.c", "a.b.c", "c.b")
# None, two equalities that share a name, one more, a comparison, and two at once. Written twice, one filter is still one.
FILTERS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"k": 1},
    {"k": 1.0},
    {"k": 2},
    {"m": "x"},
    {"k": {"gt": 0}},
    {"k": 1, "m": "x"},
)
# Small worlds, so that peers often want the same.
PAIRS = st.one_of(
    st.lists(st.tuples(st.just("a"), st.integers(0, 6)), max_size=3),
    st.lists(st.tuples(st.sampled_from(("a", "**")), st.just(0)), min_size=1, max_size=2),
    st.lists(st.tuples(st.sampled_from(PATTERNS), st.integers(0, 6)), max_size=3),
)
DATA: tuple[Any, ...] = ({}, {"k": 1}, {"k": 2}, {"m": "x"}, {"k": 1, "m": "x"}, [], 1)


def compiled(number: int) -> Filter | None:
    members = FILTERS[number]
    return None if members is None else Filter(members)


def meaning(number: int) -> int:
    """Filters 1 and 2 are the same one."""
    return 1 if number == 2 else number


class CountingEncoding(RecordingEncoding):
    """Counts how often it encodes each event."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.calls: Counter[bytes] = Counter()

    def event(self, event_type: str, data: bytes) -> bytes:
        frame = b"%b:%b" % (str(self.key).encode(), super().event(event_type, data))
        self.calls[frame] += 1
        return frame


class Turns:
    """What the hub asks to be called back for at the end of a turn."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def end(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


class HubAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.turns = Turns()
        self.metrics = Metrics()
        self.hub = Hub(self.turns, self.metrics)
        self.encodings = [CountingEncoding("one"), CountingEncoding("two")]
        self.peers = [RecordingPeer(f"peer-{n}", encoding=self.encodings[n % 3 == 0]) for n in range(6)]
        self.subscribers = [Subscriber(peer) for peer in self.peers]
        self.pairs: list[set[Pair]] = [set() for _ in self.peers]
        self.expected: list[list[bytes]] = [[] for _ in self.peers]
        self.fragile: set[int] = set()
        self.changed: set[int] = set()
        self.number = 0
        for place, peer in enumerate(self.peers):
            peer.deliver = partial(self.delivered, place)

    # --- what happens

    def delivered(self, place: int, data: bytes) -> None:
        self.peers[place].delivered.append(data)
        if place in self.fragile:  # a client that does not read is closed in the middle of a fan-out
            self.fragile.discard(place)
            self.leave(place)

    @rule(place=st.integers(0, 5), pairs=PAIRS)
    def subscribe(self, place: int, pairs: list[Pair]) -> None:
        fragile = place in self.fragile
        self.changed.add(place)
        before = self.pairs[place]
        self.pairs[place] = before | {(pattern, meaning(number)) for pattern, number in pairs}
        self.hub.subscribe(self.subscribers[place], [(Pattern.parse(pattern), compiled(number)) for pattern, number in pairs])
        if not fragile:
            assert self.got(place) == self.due(place), "what was gathered before is given before anything changes"

    @rule(place=st.integers(0, 5), other=st.integers(0, 5))
    def do_as(self, place: int, other: int) -> None:
        self.leave(place)
        self.subscribe(place, sorted(self.pairs[other]))

    @rule(place=st.integers(0, 5), patterns=st.lists(st.sampled_from(PATTERNS), max_size=3))
    def unsubscribe(self, place: int, patterns: list[str]) -> None:
        self.changed.add(place)
        self.pairs[place] = {(pattern, number) for pattern, number in self.pairs[place] if pattern not in patterns}
        self.hub.unsubscribe(self.subscribers[place], patterns)

    @rule(place=st.integers(0, 5))
    def leave(self, place: int) -> None:
        self.changed.add(place)
        self.pairs[place] = set()
        self.hub.remove(self.subscribers[place])
        self.expected[place] = list(self.peers[place].delivered)

    @rule(place=st.integers(0, 5))
    def stop_reading(self, place: int) -> None:
        self.fragile.add(place)

    @rule(event_type=st.just("a") | st.sampled_from(TYPES), data=st.sampled_from(DATA))
    def event(self, event_type: str, data: Any) -> None:
        self.number += 1
        data = {**data, "n": self.number} if isinstance(data, dict) else [data, self.number]
        raw = json.dumps(data).encode()
        users = set()
        for place, pairs in enumerate(self.pairs):
            for pattern, number in pairs:
                condition = compiled(number)
                if Pattern.parse(pattern).matches(event_type) and (condition is None or condition.matches(data)):
                    encoding = self.encodings[place % 3 == 0]
                    users.add(encoding)
                    self.expected[place].append(b"%b:%b %b\n" % (str(encoding.key).encode(), event_type.encode(), raw))
                    break
        before = [sum(encoding.calls.values()) for encoding in self.encodings]
        self.hub.event(event_type, raw)
        after = [sum(encoding.calls.values()) for encoding in self.encodings]
        assert [new - old for old, new in zip(before, after, strict=True)] == [e in users for e in self.encodings], (
            "encoded once for each encoding that somebody needs, and for no other"
        )

    @rule(patterns=st.lists(st.sampled_from(PATTERNS), unique=True, max_size=3))
    def tell(self, patterns: list[str]) -> None:
        self.number += 1
        notice = b"notice %d\n" % self.number
        for place, pairs in enumerate(self.pairs):
            if any(pattern in patterns for pattern, _ in pairs):
                self.expected[place].append(notice)
        self.hub.tell(map(Pattern.parse, patterns), lambda _encoding: notice)

    @rule()
    def turn_ends(self) -> None:
        before = [len(peer.delivered) for peer in self.peers]
        self.turns.end()
        for place in range(6):
            assert self.got(place) == self.due(place), f"peer {place} got all that was for it"
        shared: dict[Any, list[bytes]] = {}
        for place, peer in enumerate(self.peers):
            if place not in self.changed:
                now = peer.delivered[before[place] :]
                assert len(now) <= 1, "one write for each peer and turn"
                first = shared.setdefault((peer.encoding.key, frozenset(self.pairs[place])), now)
                assert [*map(id, now)] == [*map(id, first)], "peers with the same pairs share the same bytes"
        self.changed.clear()

    # --- what must be true at any time

    def got(self, place: int) -> bytes:
        return b"".join(self.peers[place].delivered)

    def due(self, place: int) -> bytes:
        return b"".join(self.expected[place])

    @invariant()
    def nobody_gets_what_is_not_for_it_nor_in_another_order(self) -> None:
        for place in range(6):
            assert self.due(place).startswith(self.got(place))

    @invariant()
    def the_hub_knows_the_pairs(self) -> None:
        assert [len(subscriber) for subscriber in self.subscribers] == [len(pairs) for pairs in self.pairs]
        wanted = {pattern for pairs in self.pairs for pattern, _ in pairs}
        assert sorted(pattern.text for pattern in self.hub.patterns()) == sorted(wanted)
        for event_type in TYPES:
            interested = [pattern.text for pattern in self.hub.interested(event_type)]
            assert sorted(interested) == sorted(text for text in wanted if Pattern.parse(text).matches(event_type))

    def teardown(self) -> None:
        self.turn_ends()
        for place in range(6):
            self.leave(place)
        hub = self.hub
        assert not hub._exact and not hub._wild and not hub._cohorts and not hub._dirty, "nothing is kept of those who left"
        assert not hub._trie._root.children and not hub._trie._root.tails
        self.hub.event("a.b", b"{}")
        assert not self.turns.waiting


HubAgainstModel.TestCase.settings = settings(HubAgainstModel.TestCase.settings, stateful_step_count=50)
TestHubAgainstModel = HubAgainstModel.TestCase


class World:
    def __init__(self) -> None:
        self.turns = Turns()
        self.metrics = Metrics()
        self.hub = Hub(self.turns, self.metrics)

    def peer(self, *patterns: str, **filters: Any) -> tuple[RecordingPeer, Subscriber]:
        peer = RecordingPeer()
        subscriber = Subscriber(peer)
        condition = Filter(filters) if filters else None
        self.hub.subscribe(subscriber, [(Pattern.parse(pattern), condition) for pattern in patterns])
        return peer, subscriber


@pytest.fixture
def world() -> World:
    return World()


def test_a_turn_ends_once_however_many_events_there_are(world: World) -> None:
    peer, _ = world.peer("a", "b")
    for number in range(5):
        world.hub.event("a", b"%d" % number)
        world.hub.event("b", b"%d" % number)
    assert len(world.turns.waiting) == 1
    assert not peer.delivered, "nothing before the turn ends"
    world.turns.end()
    assert peer.delivered == [b"".join(b"a %d\nb %d\n" % (n, n) for n in range(5))], "one write, in order"
    assert world.metrics.events_delivered == 10


def test_a_filter_is_not_looked_at_where_nobody_has_one(world: World) -> None:
    peer, _ = world.peer("a")
    world.hub.event("a", b"not decoded")
    world.turns.end()
    assert peer.delivered == [b"a not decoded\n"]


def test_one_who_joins_in_mid_turn_gets_nothing_from_before(world: World) -> None:
    early, _ = world.peer("a")
    world.hub.event("a", b"1")
    late, _ = world.peer("a")
    world.hub.event("a", b"2")
    world.turns.end()
    assert (b"".join(early.delivered), late.delivered) == (b"a 1\na 2\n", [b"a 2\n"])


def test_one_who_leaves_in_mid_turn_gets_nothing_any_more_and_the_others_all(world: World) -> None:
    stays, _ = world.peer("a")
    leaves, subscriber = world.peer("a")
    world.hub.event("a", b"1")
    world.hub.remove(subscriber)
    world.turns.end()
    assert (stays.delivered, leaves.delivered) == ([b"a 1\n"], [])


def test_one_who_unsubscribes_in_mid_turn_gets_first_what_came_before(world: World) -> None:
    peer, subscriber = world.peer("a", "b")
    world.hub.event("a", b"1")
    world.hub.unsubscribe(subscriber, ["a"])
    assert peer.delivered == [b"a 1\n"]
    world.hub.event("a", b"2")
    world.hub.event("b", b"3")
    world.turns.end()
    assert peer.delivered == [b"a 1\n", b"b 3\n"]


def test_unsubscribing_drops_all_pairs_written_with_that_string_and_nobody_elses(world: World) -> None:
    peer, subscriber = world.peer("a.*", k=1)
    world.hub.subscribe(subscriber, [(Pattern.parse("a.*"), None), (Pattern.parse("a.b"), None)])
    other, _ = world.peer("a.*", k=1)
    world.hub.unsubscribe(subscriber, ["a.*", "a.**", "never subscribed"])
    assert len(subscriber) == 1
    world.hub.event("a.b", b'{"k":1}')
    world.hub.event("a.c", b'{"k":1}')
    world.turns.end()
    assert peer.delivered == [b'a.b {"k":1}\n']
    assert other.delivered == [b'a.b {"k":1}\na.c {"k":1}\n']


def test_a_last_member_that_is_closed_while_another_joins_does_not_take_the_cohort_along(world: World) -> None:
    slow, slow_subscriber = world.peer("a")
    slow.deliver = lambda _data: world.hub.remove(slow_subscriber)
    world.hub.event("a", b"1")
    joins, _ = world.peer("a")  # what was gathered goes out first, and ends the slow one
    world.hub.event("a", b"2")
    world.turns.end()
    assert joins.delivered == [b"a 2\n"]


def test_one_that_is_closed_by_what_it_is_given_when_it_subscribes_leaves_no_ghost(world: World) -> None:
    slow, subscriber = world.peer("a")
    slow.deliver = lambda _data: world.hub.remove(subscriber)
    world.hub.event("a", b"1")
    world.hub.subscribe(subscriber, [(Pattern.parse("b"), None)])
    assert not world.hub.patterns() and not world.hub._cohorts


def test_a_peer_that_fails_does_not_keep_the_others_waiting_for_ever(world: World) -> None:
    def fail(_data: bytes) -> None:
        raise RuntimeError("a fault of ours")

    broken, _ = world.peer("a")
    broken.deliver = fail
    healthy, _ = world.peer("a", "b")
    world.hub.event("a", b"1")
    with pytest.raises(RuntimeError):
        world.turns.end()
    world.turns.end()
    world.hub.event("b", b"2")
    world.turns.end()
    assert b"".join(healthy.delivered) == b"a 1\nb 2\n"


def test_a_thousand_peers_with_the_same_subscriptions_cost_one_encoding_and_one_join(world: World) -> None:
    peers = [world.peer("a.*", "a.b")[0] for _ in range(1000)]
    assert len(world.hub._cohorts) == 1
    world.hub.event("a.b", b"1")
    world.hub.event("a.b", b"2")
    world.turns.end()
    assert {id(peer.delivered[0]) for peer in peers} == {id(peers[0].delivered[0])}
    assert peers[0].delivered == [b"a.b 1\na.b 2\n"]


def test_the_frames_of_the_json_protocol_are_passed_on_as_they_are(world: World) -> None:
    peer = RecordingPeer()
    peer.encoding = JSON_TEXT  # type: ignore[assignment]
    world.hub.subscribe(Subscriber(peer), [(Pattern.parse("a"), None)])
    world.hub.event("a", b'{"x":1}')
    world.turns.end()
    assert peer.delivered == [b'\x81\x2f{"type":"event","eventType":"a","data":{"x":1}}']


def test_remembered_routes_are_bounded_and_follow_the_subscriptions(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_tw.hub._ROUTES_KEPT", 10)
    peer, subscriber = world.peer("a.*")
    for number in range(35):
        world.hub.event(f"a.x{number}", b"1")
        assert len(world.hub._routes) <= 10
    world.hub.unsubscribe(subscriber, ["a.*"])
    assert not world.hub._routes
    world.turns.end()
    assert len(b"".join(peer.delivered).splitlines()) == 35
