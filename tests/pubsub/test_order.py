"""Order: what one client sends takes effect in its order towards any one receiver, whatever it waits for in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.settings import Limits, Realm, Role
from nexus_tw.pubsub import order
from nexus_tw.pubsub.order import Lines, Place
from tests.protocols.wamp.rules.core import Speaker, World
from tests.recording import RecordingPeer, principal
from tests.wamp.peer import (
    CALL,
    ERROR,
    EVENT,
    INVOCATION,
    PUBLISH,
    PUBLISHED,
    REGISTER,
    REGISTERED,
    RESULT,
    SUBSCRIBE,
    SUBSCRIBED,
    UNREGISTER,
    UNREGISTERED,
    UNSUBSCRIBE,
    UNSUBSCRIBED,
)

# --- lines


@pytest.fixture
def peer() -> RecordingPeer:
    return RecordingPeer()


def test_a_request_that_is_answered_later_blocks_the_line_until_then(peer: RecordingPeer) -> None:
    lines = Lines(Limits(), Metrics())
    done: list[str] = []
    answer: list[Callable[[], None]] = []
    lines.block(peer, lambda over: over())
    assert not lines.waits(peer), "answered at once"
    lines.block(peer, answer.append)
    lines.place(peer).ready(partial(done.append, "later"))
    assert done == [] and lines.waits(peer)
    answer[0]()
    assert done == ["later"] and peer not in lines.waiting


def test_a_client_has_a_line_only_while_something_of_it_waits(peer: RecordingPeer) -> None:
    lines = Lines(Limits(waiting=0), Metrics())
    done: list[str] = []
    assert peer not in lines.waiting and not lines.waits(peer)
    place = lines.place(peer)
    assert peer in lines.waiting and lines.waits(peer)
    place.ready(partial(done.append, "a"))
    assert done == ["a"] and peer not in lines.waiting
    lines.hold(peer)
    lines.place(peer).ready(partial(done.append, "b"))
    assert done == ["a"] and peer in lines.waiting
    lines.release(peer)
    assert done == ["a", "b"] and peer not in lines.waiting


def test_one_that_raises_in_its_turn_costs_those_behind_it_nothing(peer: RecordingPeer) -> None:
    lines = Lines(Limits(waiting=0), Metrics())
    done: list[str] = []

    def fails() -> None:
        raise RuntimeError("a fault of ours")

    lines.hold(peer)
    lines.place(peer).ready(fails)
    lines.place(peer).ready(partial(done.append, "next"))
    lines.release(peer)
    assert done == ["next"] and peer not in lines.waiting


def test_a_line_is_bounded_in_messages_and_in_bytes_and_counted(peer: RecordingPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MOST_BYTES", 100)
    metrics = Metrics()
    lines = Lines(Limits(waiting=3), metrics)
    lines.hold(peer)
    for _ in range(3):
        lines.place(peer).ready(lambda: None)
    with pytest.raises(NexusError, match="3 messages of this connection wait for an earlier one") as refused:
        lines.place(peer)
    assert refused.value.code == "rate_limited"
    assert (metrics.messages_queued, metrics.messages_refused) == (3, 1)
    lines.release(peer)
    lines.hold(peer)
    lines.place(peer, 100).ready(lambda: None)
    with pytest.raises(NexusError, match="100 bytes of this connection wait"):
        lines.place(peer)
    lines.place(RecordingPeer(), 100)
    lines.release(peer)
    lines.place(peer, 100)


def test_the_lines_of_one_subject_share_a_bound_and_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "ALL_BYTES", 8 * (order.PLACE + 100))
    metrics = Metrics()
    lines = Lines(Limits(), metrics)
    one, two = (RecordingPeer(who=principal("greedy")) for _ in range(2))
    places = [lines.place(peer, 100) for peer in (one, two)]
    with pytest.raises(NexusError, match=r"waiting_bytes of one subject \(limits\.share\)") as refused:
        lines.place(two, 100)
    assert refused.value.code == "rate_limited"
    assert (metrics.messages_refused, metrics.shares_refused) == (1, {"waiting_bytes": 1})
    third = RecordingPeer(who=principal("greedy"))
    with pytest.raises(NexusError):
        lines.place(third)
    assert third not in lines.waiting, "one that was refused has no line"
    lines.place(RecordingPeer(who=principal("other")), 100).ready(lambda: None)
    for place in places:
        place.ready(lambda: None)
    assert lines.held.taken == 0 and not lines.held.of("greedy")
    lines.place(two, 100)


class LinesAgainstModel(RuleBasedStateMachine):
    """In whatever order requests become ready, those of one client take effect in its order, each once, and never while
    held."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = Lines(Limits(waiting=0), Metrics())
        self.peer = RecordingPeer()
        self.number = 0
        self.open: dict[int, Place] = {}
        self.holding = False
        self.left = False
        self.done: list[int] = []

    @precondition(lambda self: not self.left)
    @rule(ready=st.booleans(), holds=st.booleans(), nested=st.booleans())
    def asks(self, ready: bool, holds: bool, nested: bool) -> None:
        place = self.lines.place(self.peer)
        self.number += 1
        self.open[self.number] = place
        if ready:
            self.becomes_ready(self.number, holds, nested)

    def becomes_ready(self, number: int, holds: bool, nested: bool) -> None:
        place = self.open.pop(number)

        def act() -> None:
            assert not self.holding, "nothing overtakes what has not taken effect"
            assert not self.lines.waits(self.peer), "whose turn has come takes no place"
            self.done.append(number)
            if nested and self.open:  # what is done answers the question of another
                self.becomes_ready(max(self.open), False, False)
            if holds:
                self.lines.hold(self.peer)
                self.holding = not self.left

        place.ready(act)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), holds=st.booleans(), nested=st.booleans())
    def is_answered(self, data: st.DataObject, holds: bool, nested: bool) -> None:
        self.becomes_ready(data.draw(st.sampled_from(sorted(self.open))), holds, nested)

    @precondition(lambda self: self.holding)
    @rule()
    def takes_effect(self) -> None:
        self.holding = False
        self.lines.release(self.peer)

    @precondition(lambda self: not self.left)
    @rule()
    def leaves(self) -> None:
        self.left = True
        self.holding = False
        self.lines.leave(self.peer)

    @precondition(lambda self: self.left)
    @rule()
    def is_released_late(self) -> None:
        self.lines.release(self.peer)

    @invariant()
    def everything_ready_up_to_the_first_that_waits_is_done_in_order(self) -> None:
        first = min(self.open, default=self.number + 1)
        assert self.done == list(range(1, len(self.done) + 1))
        if not self.holding:
            assert len(self.done) == first - 1
            assert (self.peer in self.lines.waiting) == bool(self.open)


TestLinesAgainstModel = LinesAgainstModel.TestCase


# --- sessions, where the authorizer or the bus takes its time


class Authorizer:
    """Answers when the test says so; imported by its name, as one of a user's own."""

    waiting: Final[dict[tuple[str, str], Deferred[bool]]] = {}

    def __call__(self, question: Any) -> Deferred[bool]:
        answer: Deferred[bool] = Deferred()
        self.waiting[question.action, question.uri] = answer
        return answer

    def allow(self, action: str, uri: str, yes: bool = True) -> None:
        self.waiting.pop((action, uri)).callback(yes)


authorizer = Authorizer()


class SlowBus(MemoryBus):
    """Confirms subscriptions when the test says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(MemoryBroker(clock), "node-1")
        self.unconfirmed: list[Callable[[], None]] = []
        self.slow = False

    def subscribe(self, pattern: Pattern, done: Callable[[], None]) -> None:
        if self.slow:
            self.unconfirmed.append(done)
            super().subscribe(pattern, lambda: None)
        else:
            super().subscribe(pattern, done)

    def confirm(self) -> None:
        unconfirmed, self.unconfirmed = self.unconfirmed, []
        for done in unconfirmed:
            done()


@pytest.fixture
def guarded() -> World:
    authorizer.waiting.clear()
    return World({"guarded": Realm(authorizer="tests.pubsub.test_order:authorizer")}, bus=SlowBus)


GRANTED = Role(realms=("*",), subscribe=("free.**",), publish=("free.**",), call=("free.**",), register=("free.**",))


def join(world: World, role: Role = GRANTED) -> Speaker:
    return world.join(realm="guarded", role=role)


def anybody(world: World) -> Speaker:
    return world.join(realm="guarded")


def test_subscribe_then_publish_delivers_the_event_although_the_authorizer_takes_its_time(guarded: World) -> None:
    client = join(guarded)
    client.say(SUBSCRIBE, 1, {}, "asked.topic")
    client.say(SUBSCRIBE, 2, {}, "free.topic")
    client.say(PUBLISH, 3, {"acknowledge": True, "exclude_me": False}, "free.topic", [1])
    assert client.heard() == []
    authorizer.allow("subscribe", "asked.topic")
    heard = client.heard()
    assert [message[:2] for message in heard[:3]] == [[SUBSCRIBED, 1], [SUBSCRIBED, 2], [PUBLISHED, 3]]
    assert [message[0] for message in heard[3:]] == [EVENT]


@pytest.mark.parametrize("yes", [True, False])
def test_events_of_one_publisher_come_in_its_order_also_of_several_topics_and_where_one_is_refused(
    guarded: World, yes: bool
) -> None:
    """WAMP, Ordering Guarantees: Event 1 on Topic 1 before Event 2 on Topic 2, the topics being the same or not."""
    subscriber, publisher = anybody(guarded), join(guarded)
    subscriber.subscribe("", match="prefix")
    publisher.say(PUBLISH, 1, {}, "asked.one", [1])
    publisher.say(PUBLISH, 2, {}, "free.two", [2])
    publisher.say(PUBLISH, 3, {}, "asked.three", [3])
    publisher.say(PUBLISH, 4, {}, "asked.one", [4])
    publisher.say(PUBLISH, 5, {}, "free.two", [5])
    authorizer.allow("publish", "asked.three")
    assert subscriber.heard() == []
    authorizer.allow("publish", "asked.one", yes)
    got = [message[4] for message in subscriber.heard()]
    assert got == ([[1], [2], [3], [4], [5]] if yes else [[2], [3], [5]])


def test_one_publisher_does_not_wait_for_what_another_asked(guarded: World) -> None:
    subscriber, slow, quick = anybody(guarded), join(guarded), join(guarded)
    subscriber.subscribe("", match="prefix")
    slow.say(PUBLISH, 1, {}, "asked.one", [1])
    quick.say(PUBLISH, 1, {}, "free.two", [2])
    assert [message[4] for message in subscriber.heard()] == [[2]]


def test_subscribed_comes_before_the_first_event_of_the_subscription(guarded: World) -> None:
    """WAMP, Ordering Guarantees: SUBSCRIBED before any EVENT for its topic."""
    bus: Any = guarded.realms["guarded"].bus
    bus.slow = True
    client, publisher = join(guarded), anybody(guarded)
    client.say(SUBSCRIBE, 1, {}, "asked.topic")
    publisher.publish("asked.topic", [1])
    authorizer.allow("subscribe", "asked.topic")
    publisher.publish("asked.topic", [2])
    assert client.heard() == []
    bus.confirm()
    publisher.publish("asked.topic", [3])
    assert [message[0] for message in client.heard()] == [SUBSCRIBED, EVENT]


def test_unsubscribe_takes_effect_behind_what_was_asked_before_it(guarded: World) -> None:
    client = join(guarded)
    subscription = client.subscribe("free.topic")
    client.say(SUBSCRIBE, 11, {}, "asked.topic")
    client.say(PUBLISH, 12, {"exclude_me": False}, "free.topic", [1])
    client.say(UNSUBSCRIBE, 13, subscription)
    client.say(PUBLISH, 14, {"exclude_me": False, "acknowledge": True}, "free.topic", [2])
    client.say(SUBSCRIBE, 15, {}, "free.other")
    assert client.heard() == []
    authorizer.allow("subscribe", "asked.topic", False)
    codes = [message[:3] if message[0] == ERROR else message[:2] for message in client.heard()]
    assert codes == [[ERROR, SUBSCRIBE, 11], [UNSUBSCRIBED, 13], [PUBLISHED, 14], [SUBSCRIBED, 15]]


def test_register_then_call_finds_the_procedure_and_registered_comes_before_its_invocation(guarded: World) -> None:
    """WAMP, Ordering Guarantees: REGISTERED before any INVOCATION of the procedure."""
    client = join(guarded)
    client.say(REGISTER, 1, {}, "asked.procedure")
    client.say(CALL, 2, {}, "free.nothing")
    client.say(UNREGISTER, 3, 999)
    client.say(REGISTER, 4, {}, "free.procedure")
    client.say(CALL, 5, {}, "free.procedure", [1])
    assert client.heard() == []
    authorizer.allow("register", "asked.procedure")
    heard = client.heard()
    assert [message[0] for message in heard] == [REGISTERED, ERROR, ERROR, REGISTERED, INVOCATION]
    assert [heard[1][1:3], heard[2][1:3]] == [[CALL, 2], [UNREGISTER, 3]]


def test_unregister_takes_effect_behind_the_calls_that_were_made_before_it(guarded: World) -> None:
    client, callee = join(guarded), anybody(guarded)
    callee.register("asked.slow")
    registration = client.register("free.mine")
    client.say(CALL, 11, {}, "asked.slow")
    client.say(CALL, 12, {}, "free.mine")
    client.say(UNREGISTER, 13, registration)
    client.say(CALL, 14, {}, "free.mine")
    authorizer.allow("call", "asked.slow")
    heard = client.heard()
    assert [message[0] for message in heard] == [INVOCATION, UNREGISTERED, ERROR]
    assert heard[2][:3] == [ERROR, CALL, 14]


def test_invocations_of_one_caller_come_in_the_order_of_its_calls_whichever_procedure(guarded: World) -> None:
    """WAMP, Ordering Guarantees: the invocation of Call 1 before that of Call 2, the procedures being the same or not."""
    caller, callee = join(guarded), anybody(guarded)
    callee.register("free.one")
    callee.register("asked.two")
    for request, name in enumerate(("asked.two", "free.one", "asked.two", "free.one"), 1):
        caller.say(CALL, request, {}, name, [request])
    assert callee.heard() == []
    authorizer.allow("call", "asked.two")
    assert [message[4] for message in callee.heard()] == [[1], [2], [3], [4]]


def test_parts_of_a_call_come_in_order_with_the_other_calls_of_its_caller(guarded: World) -> None:
    caller, callee = join(guarded), anybody(guarded)
    callee.register("free.stream")
    callee.register("free.other")
    caller.say(CALL, 1, {"progress": True}, "free.stream", [1])
    caller.say(SUBSCRIBE, 2, {}, "asked.topic")
    caller.say(CALL, 3, {}, "free.other", [2])
    caller.say(CALL, 1, {}, "free.stream", [3])
    assert [message[4] for message in callee.heard()] == [[1]]
    authorizer.allow("subscribe", "asked.topic")
    assert [message[4] for message in callee.heard()] == [[2], [3]]


def test_results_of_one_call_keep_their_order_and_those_of_different_calls_wait_for_nothing(guarded: World) -> None:
    """WAMP, Ordering Guarantees: none between the results of different calls; progress stands before its result."""
    caller, callee = join(guarded), anybody(guarded)
    callee.register("free.slow")
    callee.register("free.quick")
    caller.say(CALL, 1, {"receive_progress": True}, "free.slow")
    caller.say(CALL, 2, {}, "free.quick")
    slow, quick = (message[1] for message in callee.heard())
    callee.give(quick, ["quick"])
    callee.give(slow, [1], progress=True)
    callee.give(slow, [2], progress=True)
    callee.give(slow, [3])
    assert [message[1:] for message in caller.heard()] == [
        [2, {}, ["quick"]],
        [1, {"progress": True}, [1]],
        [1, {"progress": True}, [2]],
        [1, {}, [3]],
    ]


def test_an_answer_to_an_invocation_does_not_wait_for_what_its_callee_asked(guarded: World) -> None:
    """Or an authorizer that is a procedure could not be asked about its own session."""
    caller, callee = join(guarded), join(guarded)
    callee.register("free.procedure")
    caller.say(CALL, 1, {}, "free.procedure")
    invocation = callee.invocation()
    callee.say(SUBSCRIBE, 9, {}, "asked.topic")
    callee.give(invocation, [1])
    assert caller.one() == [RESULT, 1, {}, [1]]


def test_who_published_and_left_has_published_in_its_order_and_its_other_requests_are_void(guarded: World) -> None:
    bus: Any = guarded.realms["guarded"].bus
    subscriber, callee, client = anybody(guarded), anybody(guarded), join(guarded)
    subscriber.subscribe("asked.topic")
    subscriber.subscribe("free.topic")
    callee.register("free.procedure")
    bus.slow = True
    client.say(SUBSCRIBE, 1, {}, "free.topic")
    client.say(PUBLISH, 2, {}, "asked.topic", [1])
    client.say(PUBLISH, 3, {}, "free.topic", [2])
    client.say(CALL, 4, {}, "free.procedure", [3])
    client.say(REGISTER, 5, {}, "free.mine")
    client.lose()
    assert subscriber.heard() == []
    authorizer.allow("publish", "asked.topic")
    assert [message[4] for message in subscriber.heard()] == [[1], [2]]
    bus.confirm()
    realm: Any = guarded.realms["guarded"]
    assert callee.heard() == [] and not realm._subscriptions.lines.waiting
    assert len(realm._registry._peers) == 1 and len(realm._subscriptions._clients) == 1


def test_what_a_json_client_sent_before_it_left_takes_effect_in_its_order() -> None:
    world = World(bus=SlowBus)
    bus: Any = world.realms["nexus"].bus
    watcher, client, agent = world.agent(), world.agent(), world.agent()
    watcher.say(type="subscribe", events=["a.**"])
    agent.say(type="register", commands=["restart"])
    bus.slow = True
    client.say(type="subscribe", events=["b"])
    client.say(type="publish", eventType="a.1", data=1)
    client.say(type="command", command="restart")
    client.say(type="register", commands=["x"])
    client.say(type="publish", eventType="a.2", data=2)
    watcher.heard(), agent.heard()
    client.line.lose()
    assert [message["data"] for message in watcher.heard()] == [1, 2]
    assert agent.one()["command"] == "restart"
    bus.confirm()
    realm: Any = world.realms["nexus"]
    assert not realm._subscriptions.lines.waiting and len(realm._subscriptions._clients) == len(realm._registry._peers) == 1


def test_json_subscribe_unsubscribe_register_and_command_take_effect_in_the_order_in_which_they_were_sent() -> None:
    world = World(bus=SlowBus)
    bus: Any = world.realms["nexus"].bus
    client = world.agent()
    bus.slow = True
    client.say(type="subscribe", events=["a"], id=1)
    client.say(type="publish", eventType="a", data=1, id=2)
    client.say(type="register", commands=["x"], id=3)
    client.say(type="command", command="x", id=4, commandId="c-1")
    client.say(type="cancel", commandId="c-1", id=5)
    client.say(type="unsubscribe", events=["a"], id=6)
    client.say(type="publish", eventType="a", data=2, id=7)
    client.say(type="publish", eventType="nexus.reserved", data=2, id=8)
    client.say(type="ping", id=9)
    assert [message["type"] for message in client.heard()] == ["pong"], "a sign of life waits for nothing"
    bus.confirm()
    heard = client.heard()
    # Published in one turn, the event comes in the next, when its publisher has given up its subscription.
    assert [(message["type"], message.get("id")) for message in heard] == [
        ("subscribed", 1),
        ("published", 2),
        ("registered", 3),
        ("command", None),
        ("error", 4),
        ("error", 5),
        ("command_cancel", None),
        ("unsubscribed", 6),
        ("published", 7),
        ("error", 8),
    ]


def test_a_wamp_client_whose_line_is_full_is_told_and_its_parts_are_given_up() -> None:
    authorizer.waiting.clear()
    world = World(
        {"guarded": Realm(authorizer="tests.pubsub.test_order:authorizer")}, limits=Limits(waiting=2), bus=SlowBus
    )
    client, callee = join(world), anybody(world)
    callee.register("free.stream")
    client.say(CALL, 1, {"progress": True}, "free.stream", [1])
    callee.heard()
    client.say(SUBSCRIBE, 2, {}, "asked.topic")
    client.say(SUBSCRIBE, 3, {}, "free.topic")
    client.say(PUBLISH, 4, {"acknowledge": True}, "free.topic")
    client.say(REGISTER, 5, {}, "free.procedure")
    client.say(UNSUBSCRIBE, 6, 1)
    client.say(CALL, 1, {}, "free.stream", [2])
    assert [message[:3] for message in client.heard()] == [
        [ERROR, PUBLISH, 4],
        [ERROR, REGISTER, 5],
        [ERROR, UNSUBSCRIBE, 6],
        [ERROR, CALL, 1],
    ]
    assert world.metrics.messages_refused == world.metrics.errors["rate_limited"] == 4
    assert len(callee.heard()) == 1, "INTERRUPT"
    authorizer.allow("subscribe", "asked.topic")
    assert [message[:2] for message in client.heard()] == [[SUBSCRIBED, 2], [SUBSCRIBED, 3]]


KINDS: Final = ("publish", "call")


@given(
    asked=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), max_size=12),
    answers=st.permutations([(kind, number) for kind in KINDS for number in (1, 2, 3)]),
    refused=st.sets(st.tuples(st.sampled_from(KINDS), st.integers(1, 3))),
    early=st.integers(0, 6),
)
def test_whatever_the_authorizer_answers_first_one_receiver_gets_events_and_invocations_in_their_order(
    asked: list[tuple[str, int]],
    answers: list[tuple[str, int]],
    refused: set[tuple[str, int]],
    early: int,
) -> None:
    """Topics and procedures of number 0 are granted, the others asked for; answers come in any order and at any time."""
    authorizer.waiting.clear()
    world = World({"guarded": Realm(authorizer="tests.pubsub.test_order:authorizer")})
    client, receiver = join(world), anybody(world)
    for beginning in ("asked.", "free."):
        receiver.subscribe(beginning, match="prefix")
        receiver.register(beginning, match="prefix")

    def uri(number: int) -> str:
        return f"asked.number{number}" if number else "free.number"

    def answer(some: list[tuple[str, int]]) -> None:
        for kind, number in some:
            if (kind, uri(number)) in authorizer.waiting:
                authorizer.allow(kind, uri(number), (kind, number) not in refused)

    for request, (kind, number) in enumerate(asked, 1):
        client.say({"publish": PUBLISH, "call": CALL}[kind], request, {}, uri(number), [request])
        if request == len(asked) // 2:
            answer(answers[:early])
    answer(answers)
    heard = receiver.heard()
    for kind, code in (("publish", EVENT), ("call", INVOCATION)):
        sent = [
            [request] for request, (what, number) in enumerate(asked, 1) if what == kind and (kind, number) not in refused
        ]
        assert [message[4] for message in heard if message[0] == code] == sent
    assert world.realms["guarded"].waiting == {}
