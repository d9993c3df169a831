from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nexus_tw.interfaces.realm import Placed, SubscribeReply, SubscribeRequest
from nexus_tw.model.ids import number_of
from nexus_tw.model.names import Pattern
from nexus_tw.model.settings import Role
from tests.pubsub.world import World
from tests.recording import RecordingEachEncoding, RecordingPeer, principal


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def peer() -> RecordingPeer:
    return RecordingPeer()


def test_the_answer_comes_before_the_first_event(world: World, peer: RecordingPeer) -> None:
    world.subscribe(RecordingPeer(), "a")
    world.bus.confirms = False
    world.subscribe(peer, "b", name="b stands")
    peer.deliver = world.said.append
    world.arrivals.event("a", b"1", b"", None)
    world.bus.confirm()
    world.subscribe(peer, "a", "c")
    world.arrivals.event("a", b"2", b"", None)
    world.bus.confirm()
    world.arrivals.event("a", b"3", b"", None)
    world.turn()
    assert world.said == ["a", "b stands", "a,c", b"a 3\n"]


def test_the_subscription_is_there_when_the_answer_is_given(world: World, peer: RecordingPeer) -> None:
    pattern = Pattern.parse("a")

    def ok(_placed: Placed) -> None:
        world.said.append(world.subscriptions.subscription(pattern).pattern)

    world.subscriptions.subscribe(peer, peer.principal, SubscribeRequest(["a"]), SubscribeReply(ok, world.failing("a")))
    assert world.said == [pattern]


def test_one_who_is_ended_by_what_was_gathered_for_it_when_it_subscribes_anew_is_not_answered_and_leaves_nothing(
    world: World, peer: RecordingPeer
) -> None:
    world.subscribe(peer, "a")
    peer.deliver = lambda _data: world.subscriptions.gone(peer)
    world.arrivals.event("a", b"1", b"", None)
    world.subscribe(peer, "b")
    assert world.said == ["a"]
    assert not world.hub.patterns() and not world.bus.subscribed and not world.subscriptions._clients


def test_a_subscriber_is_answered_once_all_of_it_stands_on_the_bus(world: World, peer: RecordingPeer) -> None:
    world.bus.confirms = False
    world.subscribe(peer, "a", "b.*", "a")
    assert world.bus.calls == [("subscribe", "a"), ("subscribe", "b.*")]
    world.bus.confirm("a")
    assert world.said == []
    world.event("a")
    assert world.told(peer) == [], "nothing before the answer"
    world.bus.confirm("b.*")
    assert world.said == ["a,b.*,a"]
    world.event("a")
    assert world.told(peer) == ["a {}"]


def test_what_a_client_asks_takes_effect_in_the_order_in_which_it_asked(world: World, peer: RecordingPeer) -> None:
    world.bus.confirms = False
    world.subscribe(peer, "a")
    world.subscribe(peer, "a", name="a again")
    world.unsubscribe(peer, "a")
    world.subscribe(peer, "b")
    world.unsubscribe(peer, "b")
    world.subscribe(peer, "c")
    assert world.said == []
    world.bus.confirm()
    assert world.said == ["a", "a again", "-a"]
    world.bus.confirm()
    assert world.said == ["a", "a again", "-a", "b", "-b"]
    world.bus.confirm()
    assert world.said[-1] == "c"
    assert [p.text for p in world.hub.patterns()] == ["c"]
    assert world.bus.subscribed == {"c"}


def test_one_client_does_not_wait_for_what_another_asked(world: World, peer: RecordingPeer) -> None:
    world.bus.confirms = False
    world.subscribe(peer, "slow")
    world.bus.confirms = True
    world.subscribe(RecordingPeer(), "quick")
    assert world.said == ["quick"]


def test_all_who_wait_for_one_pattern_are_answered_together_in_their_order(world: World) -> None:
    world.bus.confirms = False
    for number in range(3):
        world.subscribe(RecordingPeer(), "a", name=f"peer {number}")
    assert world.bus.calls == [("subscribe", "a")], "one subscription on the bus for all of them"
    world.bus.confirm()
    assert world.said == ["peer 0", "peer 1", "peer 2"]
    world.subscribe(RecordingPeer(), "a", name="late")
    assert world.said[-1] == "late", "it stands already"


def test_the_bus_is_left_with_the_last_who_wants_a_pattern(world: World) -> None:
    one, two = RecordingPeer(), RecordingPeer()
    world.subscribe(one, "a", "b")
    world.subscribe(one, "a", k=1)
    world.subscribe(two, "a")
    world.unsubscribe(one, "a", "b", "a", "never")
    assert world.bus.calls[2:] == [("unsubscribe", "b")]
    world.subscriptions.gone(two)
    assert world.bus.calls[3:] == [("unsubscribe", "a")]
    world.subscribe(two, "a")
    assert world.bus.calls[4:] == [("subscribe", "a")]


def test_one_who_is_gone_while_it_waits_is_not_answered_and_leaves_nothing(world: World, peer: RecordingPeer) -> None:
    world.bus.confirms = False
    world.subscribe(peer, "a", "b")
    world.subscribe(peer, "c")
    world.subscriptions.gone(peer)
    world.bus.confirm("a")
    world.bus.confirm()
    assert world.said == []
    assert not world.hub.patterns() and not world.bus.subscribed
    assert ("subscribe", "c") not in world.bus.calls
    assert not world.subscriptions._interests and not world.subscriptions._clients


def test_a_pattern_that_another_waits_for_survives_the_one_who_is_gone(world: World, peer: RecordingPeer) -> None:
    world.bus.confirms = False
    other = RecordingPeer()
    world.subscribe(peer, "a", name="gone")
    world.subscribe(other, "a", name="stays")
    world.subscriptions.gone(peer)
    world.bus.confirm()
    assert world.said == ["stays"]
    assert world.bus.calls == [("subscribe", "a")]
    world.event("a")
    assert (world.told(peer), world.told(other)) == ([], ["a {}"])


def test_being_gone_twice_or_never_having_been_there_is_no_matter(world: World, peer: RecordingPeer) -> None:
    world.subscriptions.gone(peer)
    world.subscribe(peer, "a")
    world.subscriptions.gone(peer)
    world.subscriptions.gone(peer)
    assert not world.bus.subscribed


def test_unsubscribing_what_was_never_subscribed_is_answered(world: World, peer: RecordingPeer) -> None:
    world.unsubscribe(peer, "a")
    world.subscribe(peer, "b")
    world.unsubscribe(peer, "a", "not a pattern **.*")
    assert world.said == ["-a", "b", "-a,not a pattern **.*"]


def test_subscriptions_are_counted_as_pairs_and_limited() -> None:
    world = World(subscriptions=3)
    peer, other = RecordingPeer(), RecordingPeer()
    world.subscribe(peer, "a", "b")
    world.subscribe(peer, "a", "b", name="the same again costs nothing")
    world.subscribe(peer, "a", k=1, name="another filter is another pair")
    world.subscribe(peer, "c")
    assert world.said[-1] == ("c", "limit_exceeded", "More than 3 subscriptions")
    assert "c" not in world.bus.subscribed
    world.subscribe(other, "c", name="others have their own count")
    world.unsubscribe(peer, "a")
    world.subscribe(peer, "c", "d", name="room again")
    assert world.said[-3:] == ["others have their own count", "-a", "room again"]


def test_more_types_at_once_than_anybody_may_have_are_refused_unread() -> None:
    world = World(subscriptions=3)
    peer = RecordingPeer()
    world.subscribe(peer, "a", "b", "c", "not a name", name="too many")
    assert world.said == [("too many", "limit_exceeded", "More than 3 subscriptions")]
    world.subscribe(peer, *"abcabcabc", name="three, said often")
    assert world.said[1:] == ["three, said often"]


def test_the_limit_counts_what_is_still_waiting() -> None:
    world = World(subscriptions=1)
    world.bus.confirms = False
    peer = RecordingPeer()
    world.subscribe(peer, "a")
    world.subscribe(peer, "b")
    world.bus.confirm()
    assert world.said == ["a", ("b", "limit_exceeded", "More than 1 subscriptions")]


def test_the_filters_of_a_connection_are_weighed_together() -> None:
    """128 subscriptions of 30 conditions each: what an event has to be asked is bounded for a connection, not for a filter."""
    world = World(filters=10)
    peer, other = RecordingPeer(), RecordingPeer()
    world.subscribe(peer, "a", "b", k={"gt": 1, "lt": 2}, name="six")
    world.subscribe(peer, "a", "b", k={"gt": 1, "lt": 2}, name="the same again weighs nothing")
    world.subscribe(peer, "c", "d", k=[1, 2], name="six more")
    why = "filters: more than 10 values, or parts of names, in all of them"
    assert world.said[-1] == ("six more", "limit_exceeded", why)
    assert "c" not in world.bus.subscribed
    world.subscribe(other, "c", "d", k=[1, 2], name="others have their own")
    world.unsubscribe(peer, "a")
    world.subscribe(peer, "c", "d", k=[1, 2], name="room again")
    assert world.said[-3:] == ["others have their own", "-a", "room again"]
    world.subscribe(peer, *"efghij", name="none weighs nothing")
    assert world.said[-1] == "none weighs nothing"


def test_the_filters_of_all_are_a_pot_with_a_share_for_each_subject() -> None:
    world = World(filters=0, filters_all=20)
    mine, too, other = RecordingPeer(), RecordingPeer(), RecordingPeer(who=principal("somebody else"))
    world.subscribe(mine, "a", "b", k=[1], name="four")
    world.subscribe(too, "a", k=[1], name="two")
    assert world.said[-1] == ("two", "limit_exceeded", "More than 5 filters of one subject (limits.share)")
    assert world.metrics.shares_refused == {"filters": 1}
    world.subscribe(other, "a", k=[1], name="others have their share")
    world.subscriptions.gone(mine)
    world.subscribe(too, "a", k=[1], name="what the one left the other takes")
    assert world.said[-2:] == ["others have their share", "what the one left the other takes"]
    for peer in (too, other):
        world.subscriptions.gone(peer)
    assert world.subscriptions._filters.taken == 0


def test_filters_weigh_while_their_subscription_is_on_its_way_and_not_after_its_subscriber_left() -> None:
    world = World(filters_all=20)
    world.bus.confirms = False
    peer = RecordingPeer()
    world.subscribe(peer, "a", k=1)
    assert world.subscriptions._filters.taken == 1
    world.subscriptions.gone(peer)
    assert world.subscriptions._filters.taken == 0
    world.bus.confirm()
    assert world.subscriptions._filters.taken == 0
    assert world.said == []


def test_without_a_limit_there_is_none() -> None:
    world = World(subscriptions=0)
    world.subscribe(RecordingPeer(), *[f"a{number}" for number in range(1000)], name="many")
    assert world.said == ["many"]


@pytest.mark.parametrize(
    ("events", "filters", "code", "message"),
    [
        (["task.a", "secret"], {}, "forbidden", "Not allowed to subscribe to secret"),
        (["**"], {}, "forbidden", "Not allowed to subscribe to **"),
        (["task.a", ""], {}, "invalid_message", "Invalid message format: events[1]: must not be empty"),
        (["task.a"], {"k": {"prefix": 1}}, "invalid_message", "Invalid message format: filters.k.prefix: expected a string"),
        (["task.a"], {"k": [1, 2]}, "limit_exceeded", "filters: more than 2 values"),
    ],
)
def test_a_subscribe_that_is_refused_changes_nothing(
    events: list[str], filters: dict[str, Any], code: str, message: str
) -> None:
    world = World(filter_nodes=2)
    peer = RecordingPeer(who=principal(role=Role(subscribe=("task.**",))))
    world.subscribe(peer, *events, name="it", **filters)
    assert world.said == [("it", code, message)]
    assert not world.bus.calls and not world.subscriptions._clients


def test_reserved_names_can_be_subscribed_to(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "nexus.broadcast")
    assert world.said == ["nexus.broadcast"]


def test_subscribing_to_nothing_is_answered(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, name="nothing")
    assert world.said == ["nothing"]


def test_what_was_missed_cannot_be_asked_for_while_the_bus_is_away(world: World, peer: RecordingPeer) -> None:
    world.bus.available = False
    world.subscribe(peer, "a", name="with since", recover=True)
    world.subscribe(peer, "a", name="plain")
    assert world.said == [("with since", "bus_unavailable", "The event bus is away"), "plain"]


# --- those who speak WAMP


def test_patterns_of_wamp_are_subscribed_to_on_the_bus_and_in_the_hub(world: World) -> None:
    peer = RecordingPeer(encoding=RecordingEachEncoding())
    ways = [("a.b", "prefix"), ("a..c", "wildcard"), ("a.b", "exact")]
    one, two, three = (number_of(world.match(peer, uri, match)) for uri, match in ways)
    assert world.bus.calls == [("subscribe", "a.b**"), ("subscribe", "a.*.c"), ("subscribe", "a.b")]
    world.event("a.bb.c")
    world.event("a.b")
    assert sorted(world.told(peer)) == sorted(
        [f"{one} a.bb.c {{}}", f"{two} a.bb.c {{}}", f"{one} a.b {{}}", f"{three} a.b {{}}"]
    )


def test_rights_are_those_that_it_is_given_and_they_must_cover_the_pattern(world: World) -> None:
    peer = RecordingPeer(who=principal(role=Role()))
    may = principal(role=Role(subscribe=("a.**",)))
    world.match(peer, "a.", "prefix", may)
    assert world.said == ["a."]
    world.match(peer, "a", "prefix", may)
    world.match(peer, ".b", "wildcard", may)
    assert world.said[1:] == [
        ("a", "forbidden", "Not allowed to subscribe to a**"),
        (".b", "forbidden", "Not allowed to subscribe to *.b"),
    ]


def test_a_subscription_has_a_number_which_its_subscribers_alone_can_use(world: World, peer: RecordingPeer) -> None:
    other = RecordingPeer()
    pattern = world.match(peer, "a", "prefix")
    world.subscribe(other, "b")
    number = world.subscriptions.subscription(pattern).number
    assert world.subscriptions.subscription(pattern).created == 1500
    assert world.subscriptions.held(peer, number) == pattern
    assert world.subscriptions.held(other, number) is None and world.subscriptions.held(RecordingPeer(), number) is None
    assert world.subscriptions.held(peer, world.subscriptions.subscription(Pattern.parse("b")).number) is None
    world.unsubscribe(peer, pattern.text)
    assert world.subscriptions.held(peer, number) is None


def test_subscriptions_are_told_of_to_those_who_watch(world: World) -> None:
    watcher, one, two = RecordingPeer(), RecordingPeer(), RecordingPeer()
    names = ("on_create", "on_subscribe", "on_unsubscribe", "on_delete")
    world.subscribe(watcher, *(f"wamp.subscription.{name}" for name in names))
    world.subscribe(one, "a")
    world.subscribe(one, "a", k=1)
    world.subscribe(two, "a", "b")
    world.unsubscribe(one, "a", "never")
    world.subscriptions.gone(two)
    world.turn()
    created = {"created": "1970-01-01T00:00:01.500Z", "match": "exact"}
    a, b = (number_of(Pattern.parse(text)) for text in "ab")
    told = [line.removeprefix("wamp.subscription.").partition(" ") for line in world.told(watcher)]
    assert [(name, json.loads(data)["args"]) for name, _, data in told] == [
        ("on_create", [one.number, {"id": a, "uri": "a", **created}]),
        ("on_subscribe", [one.number, a]),
        ("on_subscribe", [two.number, a]),
        ("on_create", [two.number, {"id": b, "uri": "b", **created}]),
        ("on_subscribe", [two.number, b]),
        ("on_unsubscribe", [one.number, a]),
        ("on_unsubscribe", [two.number, a]),
        ("on_delete", [two.number, a]),
        ("on_unsubscribe", [two.number, b]),
        ("on_delete", [two.number, b]),
    ]


# --- against a model


class SubscriptionsAgainstModel(RuleBasedStateMachine):
    """The bus always has exactly the subscriptions that are active or waited for, however slow it is and whichever client
    leaves."""

    TEXTS = ("a", "b", "a.*", "**")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(subscriptions=5)
        self.world.bus.confirms = False
        self.peers: list[RecordingPeer] = [RecordingPeer() for _ in range(3)]
        self.asked: dict[int, list[str]] = {number: [] for number in range(3)}
        self.number = 0

    def expect(self, place: int) -> str:
        self.number += 1
        self.asked[place].append(str(self.number))
        return str(self.number)

    @rule(place=st.integers(0, 2), texts=st.lists(st.sampled_from(TEXTS), max_size=3), filtered=st.booleans())
    def subscribe(self, place: int, texts: list[str], filtered: bool) -> None:
        filters: dict[str, Any] = {"k": 1} if filtered else {}
        self.world.subscribe(self.peers[place], *texts, name=self.expect(place), **filters)

    @rule(place=st.integers(0, 2), texts=st.lists(st.sampled_from(TEXTS), max_size=3))
    def unsubscribe(self, place: int, texts: list[str]) -> None:
        self.world.unsubscribe(self.peers[place], *texts, name=self.expect(place))

    @rule(place=st.integers(0, 2))
    def leaves(self, place: int) -> None:
        self.world.subscriptions.gone(self.peers[place])
        self.peers[place] = RecordingPeer()
        self.asked[place] = []
        self.world.said = [said for said in self.world.said if any(self.name(said) in asked for asked in self.asked.values())]

    @precondition(lambda self: self.world.bus.unconfirmed)
    @rule(data=st.data())
    def one_stands(self, data: st.DataObject) -> None:
        self.world.bus.confirm(data.draw(st.sampled_from([text for text, _ in self.world.bus.unconfirmed])))

    @rule()
    def bus_changes_its_pace(self) -> None:
        self.world.bus.confirms = not self.world.bus.confirms

    @staticmethod
    def name(said: Any) -> str:
        return said if isinstance(said, str) else str(said[0])

    @invariant()
    def answers_come_in_the_order_of_the_questions(self) -> None:
        said = [self.name(each) for each in self.world.said]
        assert len(said) == len(set(said)), "each once"
        for asked in self.asked.values():
            answered = [name for name in said if name in asked]
            assert answered == asked[: len(answered)]

    @invariant()
    def the_bus_is_asked_for_what_somebody_here_wants(self) -> None:
        held = {pattern.text for pattern in self.world.hub.patterns()}
        assert held <= self.world.bus.subscribed
        if not self.world.bus.unconfirmed:
            assert held == self.world.bus.subscribed, "nothing is kept for those who are gone"
            assert sum(map(len, self.asked.values())) == len(self.world.said), "nobody waits for ever"

    def teardown(self) -> None:
        for place in range(3):
            self.leaves(place)
        while self.world.bus.unconfirmed:
            self.world.bus.confirm()
        subscriptions = self.world.subscriptions
        assert not self.world.bus.subscribed and not subscriptions._interests and not subscriptions._clients


SubscriptionsAgainstModel.TestCase.settings = settings(SubscriptionsAgainstModel.TestCase.settings, stateful_step_count=40)
TestSubscriptionsAgainstModel = SubscriptionsAgainstModel.TestCase


def test_patterns_subscribed_to_are_those_of_the_hub(world: World, peer: RecordingPeer) -> None:
    world.subscribe(peer, "a", "b.**")
    assert world.hub.patterns() == [Pattern.parse("a"), Pattern.parse("b.**")]


def test_wildcards_on_the_bus_have_a_share_for_each_subject_and_an_exact_name_needs_none() -> None:
    world = World()
    world.subscriptions._wildcards.resize(8)
    one, again, other = (RecordingPeer(who=principal(subject)) for subject in ("one", "one", "other"))
    world.subscribe(one, "a.*", "b.*")
    world.bus.confirm()
    world.said.clear()
    world.subscribe(again, "c.*", name="too many")
    assert "too many" not in world.said and world.metrics.shares_refused == {"wildcards": 1}
    world.subscribe(again, "a.*", "x.y", name="there already, or exact")
    world.subscribe(other, "c.*", name="another's")
    world.bus.confirm()
    assert {"there already, or exact", "another's"} <= set(map(str, world.said))
    for peer in (one, again, other):
        world.subscriptions.gone(peer)
    assert world.subscriptions._wildcards.taken == 0
