"""The hub against a model: who subscribes to what when an event comes decides who gets it, and nothing else does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from nexus_tw.interfaces.peers import Subscription
from nexus_tw.model.cache import BoundedCache
from nexus_tw.model.events import Event, EventMetadata, Rule
from nexus_tw.model.filters import Facts, Filter
from nexus_tw.model.ids import number_of
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.protocols.native.encoding import JSON_TEXT
from nexus_tw.pubsub.groups import Subscriber
from nexus_tw.pubsub.hub import Hub
from tests.recording import RecordingEachEncoding, RecordingEncoding, RecordingPeer

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
    st.just([("a", 0)]),
    st.lists(st.tuples(st.just("a"), st.integers(0, 6)), max_size=3),
    st.lists(st.tuples(st.sampled_from(("a", "**")), st.just(0)), min_size=1, max_size=2),
    st.lists(st.tuples(st.sampled_from(PATTERNS), st.integers(0, 6)), max_size=3),
)
DATA: tuple[Any, ...] = ({}, {"k": 1}, {"k": 2}, {"m": "x"}, {"k": 1, "m": "x"}, [], 1)
PEERS = 6  # as sessions they are 1 to 6
SESSIONS = st.frozensets(st.integers(1, PEERS), max_size=3)
RULES = st.one_of(
    st.none(),
    st.none(),
    st.builds(Rule, exclude=SESSIONS),
    st.builds(
        Rule,
        exclude=SESSIONS,
        exclude_authid=st.just(frozenset()) | st.just(frozenset({"even"})),
        exclude_authrole=st.just(frozenset()) | st.just(frozenset({"first"})),
        eligible=st.none() | SESSIONS,
        eligible_authid=st.none() | st.sampled_from([frozenset(), frozenset({"odd"}), frozenset({"odd", "even"})]),
        eligible_authrole=st.none() | st.just(frozenset({"second"})),
    ),
)


def compiled(number: int) -> Filter | None:
    members = FILTERS[number]
    return None if members is None else Filter(members)


def meaning(number: int) -> int:
    """Filters 1 and 2 are the same one."""
    return 1 if number == 2 else number


class CountingEncoding(RecordingEncoding):
    """Writes its name, and counts its encodings of each event."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.calls: Counter[bytes] = Counter()

    def event(self, event: Event, subscription: Subscription) -> bytes:
        frame = b"%b:%b" % (str(self.key).encode(), super().event(event, subscription))
        self.calls[frame] += 1
        return frame


class CountingEachEncoding(RecordingEachEncoding):
    """A counting encoding with one frame for each subscription."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.calls: Counter[bytes] = Counter()

    def event(self, event: Event, subscription: Subscription) -> bytes:
        frame = super().event(event, subscription)
        self.calls[frame] += 1
        return frame


Counting = CountingEncoding | CountingEachEncoding


class Turns:
    """The calls that the hub has scheduled for the end of a turn."""

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
        self.hub = Hub(self.turns, self.metrics, lambda: 1.5)
        self.encodings: list[Counting] = [CountingEncoding("one"), CountingEncoding("two"), CountingEachEncoding("each")]
        self.peers = [self.peer(place) for place in range(PEERS)]
        self.subscribers = [Subscriber(peer) for peer in self.peers]
        self.pairs: list[set[Pair]] = [set() for _ in self.peers]
        self.expected: list[list[bytes]] = [[] for _ in self.peers]
        self.fragile: set[int] = set()
        self.closed: set[int] = set()
        self.changed: set[int] = set()
        self.only: list[Rule] = []  # the rules of this turn
        self.splits = [0] * PEERS  # how many of them concern each peer or one that gets the same
        self.number = 0

    def encoding(self, place: int) -> Counting:
        return self.encodings[(0, 0, 0, 1, 2, 2)[place]]

    def peer(self, place: int) -> RecordingPeer:
        who = Principal(("even", "odd")[place % 2], ("first", "second")[place in (2, 5)], ADMIN)
        peer = RecordingPeer(f"peer-{place}", who, encoding=self.encoding(place))
        peer.number = place + 1
        peer.deliver = partial(self.delivered, place)
        return peer

    # --- what happens

    def delivered(self, place: int, data: bytes) -> None:
        if place in self.closed:
            return  # as a connection does
        self.peers[place].delivered.append(data)
        if place in self.fragile:  # a client that does not read is closed in the middle of a fan-out
            self.fragile.discard(place)
            self.closed.add(place)
            self.leave(place)

    @initialize(pairs=st.lists(PAIRS, min_size=PEERS, max_size=PEERS))
    def all_come(self, pairs: list[list[Pair]]) -> None:
        for place in range(PEERS):
            self.subscribe(place, pairs[place])

    @rule(place=st.integers(0, PEERS - 1), pairs=PAIRS)
    def subscribe(self, place: int, pairs: list[Pair]) -> None:
        fragile = place in self.fragile
        self.closed.discard(place)
        self.changed.add(place)
        if not self.encoding(place).once:  # who is told once for each subscription has no filters
            pairs = [(pattern, 0) for pattern, _ in pairs]
        before = self.pairs[place]
        self.pairs[place] = before | {(pattern, meaning(number)) for pattern, number in pairs}
        self.hub.subscribe(self.subscribers[place], [(Pattern.parse(pattern), compiled(number)) for pattern, number in pairs])
        if not fragile:
            assert self.got(place) == self.due(place), "what was gathered before is given before anything changes"

    @rule(place=st.integers(0, PEERS - 1), other=st.integers(0, PEERS - 1))
    def do_as(self, place: int, other: int) -> None:
        self.leave(place)
        self.subscribe(place, sorted(self.pairs[other]))

    @rule(place=st.integers(0, PEERS - 1), patterns=st.lists(st.sampled_from(PATTERNS), max_size=3))
    def unsubscribe(self, place: int, patterns: list[str]) -> None:
        self.changed.add(place)
        self.pairs[place] = {(pattern, number) for pattern, number in self.pairs[place] if pattern not in patterns}
        self.hub.unsubscribe(self.subscribers[place], patterns)

    @rule(place=st.integers(0, PEERS - 1))
    def leave(self, place: int) -> None:
        self.changed.add(place)
        self.pairs[place] = set()
        self.hub.remove(self.subscribers[place])
        self.expected[place] = list(self.peers[place].delivered)

    @rule(place=st.integers(0, PEERS - 1))
    def stop_reading(self, place: int) -> None:
        self.fragile.add(place)

    @rule(
        event_type=st.just("a") | st.sampled_from(TYPES),
        data=st.sampled_from(DATA),
        sayable=st.sampled_from([True, True, True, False]),
        only=RULES,
    )
    def event(self, event_type: str, data: Any, sayable: bool, only: Rule | None) -> None:
        self.number += 1
        data = {**data, "n": self.number} if isinstance(data, dict) else [data, self.number]
        raw = json.dumps(data).encode() if sayable else RecordingEachEncoding.UNSAYABLE
        decoded = json.loads(raw)
        frames: dict[Counting, set[bytes]] = {encoding: set() for encoding in self.encodings}
        for place in range(PEERS):
            meant = self.frames_for(place, event_type, decoded, raw)
            frames[self.encoding(place)].update(meant)
            if only is None or only.admits(self.peers[place]):
                self.expected[place] += meant
        excluded = [] if only is None else [self.subscribers[number - 1] for number in sorted(only.exclude)]
        if only is not None:
            self.only.append(only)
            for place in range(PEERS):
                self.splits[place] += not only.by_session or any(
                    self.same(place, number - 1) for number in only.exclude
                )
        before = [encoding.calls.copy() for encoding in self.encodings]
        metadata = None if only is None else EventMetadata(self.number, rule=only)
        self.hub.event(Event(event_type, Payload.of_value(raw), metadata), excluded)
        for encoding, calls in zip(self.encodings, before, strict=True):
            made = encoding.calls - calls
            if sayable or encoding.once:
                assert made == Counter(frames[encoding]), "each frame that somebody needs is made once, and no other"

    def frames_for(self, place: int, event_type: str, decoded: Any, raw: bytes) -> list[bytes]:
        """Return the peer's frames for an event that it receives."""
        line = b"%b %b\n" % (event_type.encode(), raw)
        pairs, encoding = self.pairs[place], self.encoding(place)
        if encoding.once:
            conditions = [compiled(number) for text, number in pairs if Pattern.parse(text).matches(event_type)]
            passes = any(condition is None or condition.matches(Facts(decoded)) for condition in conditions)
            return [b"%b:%b" % (str(encoding.key).encode(), line)] if passes else []
        if raw == RecordingEachEncoding.UNSAYABLE:
            return []
        mine = [pattern for pattern in self.hub.interested(event_type) if (pattern.text, 0) in pairs]
        return [b"%d %b" % (self.subscription(pattern).number, line) for pattern in mine]

    def subscription(self, pattern: Pattern) -> Subscription:
        bucket = self.hub.bucket(pattern)
        assert bucket is not None and bucket.pattern == pattern and bucket.created == 1500
        return bucket

    def same(self, place: int, other: int) -> bool:
        """Return whether two peers have the same subscriptions."""
        return self.encoding(place) is self.encoding(other) and self.pairs[place] == self.pairs[other]

    @rule(patterns=st.lists(st.sampled_from(PATTERNS), unique=True, max_size=3))
    def tell(self, patterns: list[str]) -> None:
        self.number += 1
        notice = b"notice %d\n" % self.number
        for place, pairs in enumerate(self.pairs):
            told = any(pattern in patterns for pattern, _ in pairs)
            if told and self.encoding(place).once:
                self.expected[place].append(notice)
        self.hub.tell(map(Pattern.parse, patterns), lambda encoding: notice if encoding.once else b"")

    @rule()
    def turn_ends(self) -> None:
        before = [len(peer.delivered) for peer in self.peers]
        self.turns.end()
        for place in range(PEERS):
            assert self.got(place) == self.due(place), f"peer {place} got all that was for it"
        shared: dict[Any, list[bytes]] = {}
        for place, peer in enumerate(self.peers):
            if place not in self.changed:
                now = peer.delivered[before[place] :]
                assert len(now) <= 1 + 2 * self.splits[place], "one write for each peer and turn, but for what is not for all"
                admitted = tuple(only.admits(peer) for only in self.only)
                first = shared.setdefault((peer.encoding.key, frozenset(self.pairs[place]), admitted), now)
                assert [*map(id, now)] == [*map(id, first)], "peers with the same pairs share the same bytes"
        self.changed.clear()
        self.only.clear()
        self.splits = [0] * PEERS

    # --- what must be true at any time

    def got(self, place: int) -> bytes:
        return b"".join(self.peers[place].delivered)

    def due(self, place: int) -> bytes:
        return b"".join(self.expected[place])

    @invariant()
    def nobody_gets_what_is_not_for_it_nor_in_another_order(self) -> None:
        for place in range(PEERS):
            assert self.due(place).startswith(self.got(place))

    @invariant()
    def the_hub_knows_the_pairs(self) -> None:
        assert [len(subscriber) for subscriber in self.subscribers] == [len(pairs) for pairs in self.pairs]
        wanted = {pattern for pairs in self.pairs for pattern, _ in pairs}
        assert sorted(pattern.text for pattern in self.hub.patterns()) == sorted(wanted)
        buckets = self.hub.buckets()
        assert len({bucket.number for bucket in buckets}) == len(buckets)
        for bucket in buckets:
            text = bucket.pattern.text
            subscribed = [number for number, pairs in enumerate(self.pairs, 1) if text in dict(pairs)]
            assert sorted(peer.number for peer in bucket.peers()) == subscribed
        for event_type in TYPES:
            interested = [pattern.text for pattern in self.hub.interested(event_type)]
            assert sorted(interested) == sorted(text for text in wanted if Pattern.parse(text).matches(event_type))
            assert self.hub.wanted(event_type) == bool(interested)

    def teardown(self) -> None:
        self.turn_ends()
        for place in range(PEERS):
            self.leave(place)
        hub = self.hub
        assert not list(hub._buckets) and not hub._cohorts and not hub._dirty, "nothing is kept of those who left"
        assert not hub._buckets._trie._root.children and not hub._buckets._trie._root.tails
        self.hub.event(Event("a.b", Payload.of_value(b"{}")))
        assert not self.turns.waiting


HubAgainstModel.TestCase.settings = settings(HubAgainstModel.TestCase.settings, stateful_step_count=50)
TestHubAgainstModel = HubAgainstModel.TestCase


class World:
    def __init__(self) -> None:
        self.turns = Turns()
        self.metrics = Metrics()
        self.hub = Hub(self.turns, self.metrics, lambda: 1.5)
        self.each = RecordingEachEncoding()

    def peer(self, *patterns: str, **filters: Any) -> tuple[RecordingPeer, Subscriber]:
        peer = RecordingPeer()
        return peer, self.place(peer, patterns, Filter(filters) if filters else None)

    def wamp(self, *patterns: str) -> tuple[RecordingPeer, Subscriber]:
        """One who is told once for each subscription."""
        peer = RecordingPeer(encoding=self.each)
        return peer, self.place(peer, patterns, None)

    def place(self, peer: RecordingPeer, patterns: Iterable[str], condition: Filter | None) -> Subscriber:
        subscriber = Subscriber(peer)
        self.hub.subscribe(subscriber, [(Pattern.parse(pattern), condition) for pattern in patterns])
        return subscriber

    def event(self, event_type: str, data: bytes, *excluded: Subscriber, **rule: Any) -> None:
        """An event, which with `rule` (members of a `Rule`) is not for everybody, nor for those excluded."""
        metadata = None
        if excluded or rule:
            metadata = EventMetadata(1, rule=Rule([each.peer.number for each in excluded], **rule))
        self.hub.event(Event(event_type, Payload.of_value(data), metadata), excluded)


@pytest.fixture
def world() -> World:
    return World()


def test_a_turn_ends_once_however_many_events_there_are(world: World) -> None:
    peer, _ = world.peer("a", "b")
    for number in range(5):
        world.event("a", b"%d" % number)
        world.event("b", b"%d" % number)
    assert len(world.turns.waiting) == 1
    assert not peer.delivered, "nothing before the turn ends"
    world.turns.end()
    assert peer.delivered == [b"".join(b"a %d\nb %d\n" % (n, n) for n in range(5))], "one write, in order"
    assert world.metrics.events_delivered == 10


def test_a_filter_is_not_looked_at_where_nobody_has_one(world: World) -> None:
    peer, _ = world.peer("a")
    world.event("a", b"not decoded")
    world.turns.end()
    assert peer.delivered == [b"a not decoded\n"]


def test_one_who_joins_in_mid_turn_gets_nothing_from_before(world: World) -> None:
    early, _ = world.peer("a")
    world.event("a", b"1")
    late, _ = world.peer("a")
    world.event("a", b"2")
    world.turns.end()
    assert (b"".join(early.delivered), late.delivered) == (b"a 1\na 2\n", [b"a 2\n"])


def test_one_who_leaves_in_mid_turn_gets_nothing_any_more_and_the_others_all(world: World) -> None:
    stays, _ = world.peer("a")
    leaves, subscriber = world.peer("a")
    world.event("a", b"1")
    world.hub.remove(subscriber)
    world.turns.end()
    assert (stays.delivered, leaves.delivered) == ([b"a 1\n"], [])


def test_one_who_unsubscribes_in_mid_turn_gets_first_what_came_before(world: World) -> None:
    peer, subscriber = world.peer("a", "b")
    world.event("a", b"1")
    world.hub.unsubscribe(subscriber, ["a"])
    assert peer.delivered == [b"a 1\n"]
    world.event("a", b"2")
    world.event("b", b"3")
    world.turns.end()
    assert peer.delivered == [b"a 1\n", b"b 3\n"]


def test_unsubscribing_drops_all_pairs_written_with_that_string_and_nobody_elses(world: World) -> None:
    peer, subscriber = world.peer("a.*", k=1)
    world.hub.subscribe(subscriber, [(Pattern.parse("a.*"), None), (Pattern.parse("a.b"), None)])
    other, _ = world.peer("a.*", k=1)
    world.hub.unsubscribe(subscriber, ["a.*", "a.**", "never subscribed"])
    assert len(subscriber) == 1
    world.event("a.b", b'{"k":1}')
    world.event("a.c", b'{"k":1}')
    world.turns.end()
    assert peer.delivered == [b'a.b {"k":1}\n']
    assert other.delivered == [b'a.b {"k":1}\na.c {"k":1}\n']


def test_a_last_member_that_is_closed_while_another_joins_does_not_take_the_cohort_along(world: World) -> None:
    slow, slow_subscriber = world.peer("a")
    slow.deliver = lambda _data: world.hub.remove(slow_subscriber)
    world.event("a", b"1")
    joins, _ = world.peer("a")  # what was gathered goes out first, and ends the slow one
    world.event("a", b"2")
    world.turns.end()
    assert joins.delivered == [b"a 2\n"]


def test_one_that_is_closed_by_what_it_is_given_when_it_subscribes_leaves_no_ghost(world: World) -> None:
    slow, subscriber = world.peer("a")
    slow.deliver = lambda _data: world.hub.remove(subscriber)
    world.event("a", b"1")
    world.hub.subscribe(subscriber, [(Pattern.parse("b"), None)])
    assert not world.hub.patterns() and not world.hub._cohorts


def test_a_peer_that_fails_does_not_keep_the_others_waiting_for_ever(world: World) -> None:
    def fail(_data: bytes) -> None:
        raise RuntimeError("a fault of ours")

    broken, _ = world.peer("a")
    broken.deliver = fail
    healthy, _ = world.peer("a", "b")
    world.event("a", b"1")
    with pytest.raises(RuntimeError):
        world.turns.end()
    world.turns.end()
    world.event("b", b"2")
    world.turns.end()
    assert b"".join(healthy.delivered) == b"a 1\nb 2\n"


def test_a_thousand_peers_with_the_same_subscriptions_cost_one_encoding_and_one_join(world: World) -> None:
    peers = [world.peer("a.*", "a.b")[0] for _ in range(1000)]
    assert len(world.hub._cohorts) == 1
    world.event("a.b", b"1")
    world.event("a.b", b"2")
    world.turns.end()
    assert {id(peer.delivered[0]) for peer in peers} == {id(peers[0].delivered[0])}
    assert peers[0].delivered == [b"a.b 1\na.b 2\n"]


def test_the_frames_of_the_json_protocol_are_passed_on_as_they_are(world: World) -> None:
    peer = RecordingPeer(encoding=JSON_TEXT)
    world.place(peer, ["a"], None)
    world.event("a", b'{"x":1}')
    world.turns.end()
    assert peer.delivered == [b'\x81\x2f{"type":"event","eventType":"a","data":{"x":1}}']


def test_remembered_routes_are_bounded_and_follow_the_subscriptions(world: World) -> None:
    world.hub._buckets._kept = BoundedCache(10, 1 << 20)
    peer, subscriber = world.peer("a.*")
    for number in range(35):
        world.event(f"a.x{number}", b"1")
        assert len(world.hub._buckets._kept) <= 10
    world.hub.unsubscribe(subscriber, ["a.*"])
    assert not world.hub._buckets._kept
    world.turns.end()
    assert len(b"".join(peer.delivered).splitlines()) == 35


def test_remembered_routes_are_bounded_in_bytes_however_many_patterns_a_name_has(world: World) -> None:
    world.hub._buckets._kept = BoundedCache(1000, 50_000)
    _, subscriber = world.peer()
    for number in range(256):
        parts = ["*" if number >> bit & 1 else "a" for bit in range(8)]
        world.hub.subscribe(subscriber, [(Pattern.parse(".".join([*parts, "**"])), None)])
    for number in range(100):
        assert world.hub.wanted(f"{'a.' * 8}{number}")
        assert len(world.hub._buckets._kept) * 256 * 8 <= 50_000


STEPS = st.tuples(st.integers(0, 7), st.sampled_from(["a", "b.c", "a.*", "*.c", "**"]), st.booleans(), st.integers(0, 1))


@given(st.lists(STEPS))
def test_subscribers_of_a_pattern_are_counted_as_they_come_and_go(steps: list[tuple[int, str, bool, int]]) -> None:
    """Counted, not gathered: `count_subscribers`, the id of a subscription and what a name matches need no walk."""
    world = World()
    places = [world.peer() for _ in range(8)]
    for place, text, comes, k in steps:
        subscriber = places[place][1]
        if comes:
            world.hub.subscribe(subscriber, [(Pattern.parse(text), Filter({"k": k}) if k else None)])
        elif k:
            world.hub.unsubscribe(subscriber, [text, "never"])
        else:
            world.hub.remove(subscriber)
        buckets = world.hub.buckets()
        assert {bucket.number: bucket for bucket in buckets} == world.hub._by_number
        for bucket in buckets:
            assert bucket.subscribers == len(bucket.peers()) > 0
            assert world.hub.numbered(bucket.number) is bucket
        for name in ("a", "b.c", "a.x"):
            assert set(world.hub.matching(name)) == {bucket for bucket in buckets if bucket.pattern.matches(name)}


# --- events that are not for everybody


def test_one_member_of_a_cohort_is_left_out_and_the_others_share_the_same_bytes(world: World) -> None:
    (one, _), (publisher, its), (two, _) = world.peer("a"), world.peer("a"), world.peer("a")
    world.event("a", b"1", its)
    world.turns.end()
    assert one.delivered == two.delivered == [b"a 1\n"] and one.delivered[0] is two.delivered[0]
    assert publisher.delivered == []
    assert world.metrics.events_delivered == 2


def test_events_with_the_same_short_rule_travel_together_and_long_lists_are_not_compared(world: World) -> None:
    """Comparing lists of tens of thousands for each cohort would be the product of both."""
    (one, _), (publisher, its), _ = world.peer("a"), world.peer("a"), world.peer("a")
    for _ in range(3):
        world.hub.event(Event("a", Payload.of_value(b"1"), EventMetadata(1, rule=Rule([publisher.number]))), [its])
    batches = next(iter(world.hub._cohorts.values())).pending
    assert [len(batch.frames) for batch in batches] == [3]
    for _ in range(3):
        rule = Rule([publisher.number, *range(1 << 40, (1 << 40) + 1000)])
        world.hub.event(Event("a", Payload.of_value(b"2"), EventMetadata(1, rule=rule)), [its])
    assert [len(batch.frames) for batch in batches] == [3, 1, 1, 1]
    for _ in range(2):
        world.hub.event(Event("a", Payload.of_value(b"3"), EventMetadata(1, rule=rule)), [its])
    assert [len(batch.frames) for batch in batches] == [3, 1, 1, 3], "the very same one need not be compared"
    world.turns.end()
    assert b"".join(one.delivered).splitlines() == [b"a 1"] * 3 + [b"a 2"] * 3 + [b"a 3"] * 2
    assert publisher.delivered == []


def test_a_cohort_without_the_one_who_is_left_out_gets_the_event_among_the_others(world: World) -> None:
    publisher, its = world.peer("a", "b")
    peer, _ = world.peer("a")
    world.event("a", b"1")
    world.event("a", b"2", its)
    world.event("a", b"3")
    world.turns.end()
    assert peer.delivered == [b"a 1\na 2\na 3\n"], "one write"
    assert b"".join(publisher.delivered) == b"a 1\na 3\n"


def test_one_left_out_who_does_not_subscribe_splits_nothing(world: World) -> None:
    peer, _ = world.peer("a")
    world.event("a", b"1")
    world.event("a", b"2", Subscriber(RecordingPeer()))
    world.turns.end()
    assert peer.delivered == [b"a 1\na 2\n"]


def test_what_is_for_some_keeps_its_place_among_what_is_for_all(world: World) -> None:
    one, two = world.peer("a", "b")[0], world.peer("a", "b")[0]
    world.event("a", b"1")
    world.event("b", b"2", eligible=(two.number,))
    world.event("a", b"3", eligible=(two.number,))
    world.event("b", b"4", eligible=(one.number,))
    world.event("a", b"5")
    world.turns.end()
    assert one.delivered == [b"a 1\n", b"b 4\n", b"a 5\n"]
    assert two.delivered == [b"a 1\n", b"b 2\na 3\n", b"a 5\n"], "what is for the same ones travels together"


def test_who_may_get_an_event_is_asked_by_session_subject_and_role(world: World) -> None:
    peers = [RecordingPeer(who=Principal(subject, role, ADMIN)) for subject, role in (("x", "r"), ("y", "r"), ("x", "s"))]
    for peer in peers:
        world.place(peer, ["a"], None)
    world.event("a", b"1", eligible_authid=frozenset({"x"}), exclude_authrole=frozenset({"s"}))
    world.event("a", b"2", eligible_authrole=frozenset({"s"}))
    world.event("a", b"3", eligible=())
    world.event("a", b"4", exclude_authid=frozenset({"x"}))
    world.turns.end()
    assert [b"".join(peer.delivered) for peer in peers] == [b"a 1\n", b"a 4\n", b"a 2\n"]


def test_one_who_is_left_out_moves_to_another_cohort_and_still_gets_nothing_of_it(world: World) -> None:
    stays, _ = world.peer("a")
    publisher, its = world.peer("a")
    world.event("a", b"1", its)
    world.hub.subscribe(its, [(Pattern.parse("b"), None)])
    world.event("a", b"2", its)
    world.turns.end()
    assert (b"".join(stays.delivered), publisher.delivered) == (b"a 1\na 2\n", [])


# --- those who are told once for each subscription


def test_one_frame_for_each_subscription_and_one_event_for_those_who_want_but_one(world: World) -> None:
    once, _ = world.peer("a.b", "a.*", "**")
    each, _ = world.wamp("a.b", "a.*", "**")
    numbers = {bucket.pattern.text: bucket.number for bucket in world.hub.buckets()}
    world.event("a.b", b"1")
    world.turns.end()
    assert once.delivered == [b"a.b 1\n"]
    assert len(each.delivered) == 1, "one write"
    lines = each.delivered[0].splitlines()
    assert sorted(lines) == sorted(b"%d a.b 1" % number for number in numbers.values())
    assert lines[0] == b"%d a.b 1" % numbers["a.b"], "the one that says it exactly first"
    assert world.metrics.events_delivered == 4


def test_peers_with_the_same_subscriptions_share_the_frames_of_each(world: World) -> None:
    peers = [world.wamp("a", "*")[0] for _ in range(3)]
    world.event("a", b"1")
    world.turns.end()
    assert len({id(peer.delivered[0]) for peer in peers}) == 1


def test_a_subscription_has_the_number_of_its_pattern_and_no_other_has_it(world: World) -> None:
    _, first = world.wamp("a")
    _, second = world.peer("a")

    def number() -> int:
        bucket = world.hub.bucket(Pattern.parse("a"))
        assert bucket is not None
        return bucket.number

    mine = number()
    assert mine == number_of(Pattern.parse("a")) != number_of(Pattern.parse("b"))
    world.hub.remove(first)
    assert number() == mine
    found = world.hub.numbered(mine)
    assert found is not None and found.pattern == Pattern.parse("a")
    world.hub.remove(second)
    assert world.hub.bucket(Pattern.parse("a")) is None and world.hub.numbered(mine) is None
    world.wamp("a")
    assert number() == mine


def test_what_an_encoding_cannot_say_is_not_delivered_in_it_and_in_others_it_is(world: World) -> None:
    each, _ = world.wamp("a")
    once, _ = world.peer("a")
    world.event("a", RecordingEachEncoding.UNSAYABLE)
    world.turns.end()
    assert (each.delivered, once.delivered) == ([], [b"a %b\n" % RecordingEachEncoding.UNSAYABLE])
    assert world.metrics.events_delivered == 1


def test_a_notice_goes_to_those_in_whose_encoding_it_is_something(world: World) -> None:
    each, _ = world.wamp("a")
    once, _ = world.peer("a")
    world.hub.tell([Pattern.parse("a")], lambda encoding: b"notice\n" if encoding.once else b"")
    world.turns.end()
    assert (each.delivered, once.delivered) == ([], [b"notice\n"])


def test_a_name_and_a_wildcard_for_that_name_alone_are_two_subscriptions(world: World) -> None:
    peer = RecordingPeer(encoding=world.each)
    world.hub.subscribe(Subscriber(peer), [(Pattern.parse("a"), None), (Pattern.wildcard("a"), None)])
    world.event("a", b"1")
    world.turns.end()
    numbers = [number_of(pattern) for pattern in (Pattern.parse("a"), Pattern.wildcard("a"))]
    assert peer.delivered == [b"%d a 1\n%d a 1\n" % tuple(numbers)] and numbers[0] != numbers[1]


def test_prefixes_of_characters_and_wildcards_are_found(world: World) -> None:
    peer = RecordingPeer(encoding=world.each)
    world.hub.subscribe(Subscriber(peer), [(Pattern.prefixed("a.b"), None), (Pattern.wildcard("a..c"), None)])
    for event_type in ("a.b", "a.bx", "a.x.c", "a.bx.c", "b.b", "a"):
        world.event(event_type, b"1")
    world.turns.end()
    one, two = number_of(Pattern.prefixed("a.b")), number_of(Pattern.wildcard("a..c"))
    expected = [(one, "a.b"), (one, "a.bx"), (two, "a.x.c"), (one, "a.bx.c"), (two, "a.bx.c")]
    assert b"".join(peer.delivered).decode().splitlines() == [f"{number} {name} 1" for number, name in expected]


def test_reserved_names_come_to_those_who_name_them_and_not_to_those_who_ask_for_everything(world: World) -> None:
    everything, _ = world.peer("**", "*.*")
    named, _ = world.peer("wamp.**")
    exactly, _ = world.peer("nexus.x")
    assert world.hub.wanted("wamp.x") and not world.hub.wanted("nexus.y")
    for event_type in ("wamp.x", "nexus.x", "nexus.y", "a.x"):
        world.event(event_type, b"1")
    world.turns.end()
    assert everything.delivered == [b"a.x 1\n"]
    assert (named.delivered, exactly.delivered) == ([b"wamp.x 1\n"], [b"nexus.x 1\n"])
