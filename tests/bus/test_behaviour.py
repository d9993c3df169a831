"""The contract of buses: two nodes, each with a listener, over each of the built-in buses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position
from tests.bus.nodes import Make, Node, Pair, settled
from tests.bus.recording import Recorder, pattern, published, sent, subscribed, until


@pytest_twisted.ensureDeferred
async def test_a_bus_provides_its_interface(pair: Pair) -> None:
    """A bus has all that the interface asks for, and can be used once it is started."""
    one, _ = pair
    assert verifyObject(IBus, one.bus)
    assert one.bus.available
    assert one.bus.node == "one"
    assert one.heard.changes == []


@pytest_twisted.ensureDeferred
async def test_events_of_one_type_arrive_in_the_order_of_publishing_on_every_node(pair: Pair) -> None:
    """Five hundred events of one turn arrive everywhere, in that order, unchanged."""
    one, two = pair
    await subscribed(one.bus, "task.updated")
    await subscribed(two.bus, "task.updated")
    answers: list[Position | NexusError | None] = []
    for number in range(500):
        one.bus.publish("task.updated", b'{"n": %d, "t": "\xc3\xa4"}' % number, answers.append)
    expected = [("task.updated", b'{"n": %d, "t": "\xc3\xa4"}' % number) for number in range(500)]
    await until(lambda: len(one.heard.events) >= 500 and len(two.heard.events) >= 500 and len(answers) >= 500)
    assert one.heard.events == expected
    assert two.heard.events == expected
    assert answers == one.heard.positions == two.heard.positions


@pytest_twisted.ensureDeferred
async def test_every_node_hears_two_publishers_in_the_same_order(pair: Pair) -> None:
    """Where two nodes publish under one type at the same time, there is still one order."""
    one, two = pair
    for node in pair:
        await subscribed(node.bus, "a.b")
    for number in range(100):
        for node in pair:
            node.bus.publish("a.b", b'["%b",%d]' % (node.bus.node.encode(), number), lambda _: None)
        if number % 10 == 0:
            await settled(one)
    await until(lambda: len(one.heard.events) == 200 and len(two.heard.events) == 200)
    assert one.heard.events == two.heard.events


@pytest_twisted.ensureDeferred
async def test_an_event_that_matches_several_subscriptions_arrives_once(pair: Pair) -> None:
    """A type and four overlapping patterns, two of which need the same of Redis, bring one event once."""
    one, two = pair
    await subscribed(one.bus, "a.b.c", "a.**", "*.b.c", "a.*.c", "**", "a.b.*")
    for number in range(20):
        await published(two.bus, "a.b.c", b"%d" % number)
    await settled(one, two)
    await settled(one)
    await until(lambda: len(one.heard.events) >= 20)
    assert one.heard.events == [("a.b.c", b"%d" % number) for number in range(20)]


@pytest_twisted.ensureDeferred
async def test_only_what_is_subscribed_arrives(pair: Pair) -> None:
    """`a.*` brings `a.x`, and neither `a`, `a.x.y` nor `b.x`; a node without subscriptions hears nothing."""
    one, two = pair
    await subscribed(one.bus, "a.*")
    for event_type in ("a", "a.x.y", "b.x", "a.x"):
        assert await published(two.bus, event_type) is None
    await until(lambda: one.heard.events)
    await settled(one, two)
    assert one.heard.events == [("a.x", b"{}")]
    assert two.heard.events == []


@pytest_twisted.ensureDeferred
async def test_special_characters_of_a_type_stand_for_themselves(pair: Pair) -> None:
    """Characters that are special in globs match only themselves beside a wildcard."""
    one, two = pair
    await subscribed(one.bus, "a?[x]\\^-.*", "ä€.*")
    for event_type in ("ab[x]\\^-.n", "a?x\\^-.n", "a?[x]\\^-.n", "ä€.n"):
        assert await published(two.bus, event_type) is None
    await until(lambda: len(one.heard.events) >= 2)
    await settled(one)
    assert [event_type for event_type, _ in one.heard.events] == ["a?[x]\\^-.n", "ä€.n"]


@pytest_twisted.ensureDeferred
async def test_unsubscribing_ends_that_subscription_and_no_other(pair: Pair) -> None:
    """After `a.*` is given up `a.x` still arrives by `a.**`, which needs the same of Redis; then nothing does."""
    one, two = pair
    await subscribed(one.bus, "a.*", "a.**", "a.x")
    one.bus.unsubscribe(pattern("a.*"))
    one.bus.unsubscribe(pattern("a.x"))
    await published(two.bus, "a.x", b"1")
    await until(lambda: one.heard.events)
    one.bus.unsubscribe(pattern("a.**"))
    await subscribed(one.bus, "b")  # confirmed after the end of the others
    await published(two.bus, "a.x", b"2")
    await published(two.bus, "b", b"3")
    await until(lambda: len(one.heard.events) >= 2)
    assert one.heard.events == [("a.x", b"1"), ("b", b"3")]


@pytest_twisted.ensureDeferred
async def test_subscribing_again_before_the_end_is_confirmed_works(pair: Pair) -> None:
    """Unsubscribe and subscribe in one turn, many times over: what is published once it stands arrives, once."""
    one, two = pair
    for number in range(30):
        done: list[int] = []
        for text in ("r.x", "r.*"):
            one.bus.subscribe(pattern(text), partial(done.append, 1))
            one.bus.unsubscribe(pattern(text))
            one.bus.subscribe(pattern(text), partial(done.append, 2))
        await until(lambda done=done: len(done) == 4)  # type: ignore[misc]
        await published(two.bus, "r.x", b"%d" % number)
        await until(lambda number=number: len(one.heard.events) > number)  # type: ignore[misc]
        for text in ("r.x", "r.*"):
            one.bus.unsubscribe(pattern(text))
    assert one.heard.events == [("r.x", b"%d" % number) for number in range(30)]


@pytest_twisted.ensureDeferred
async def test_events_arrive_once_while_overlapping_subscriptions_come_and_go(pair: Pair) -> None:
    """While other patterns that match are taken up and given up, a subscriber to `c.x` gets each event once, in order."""
    one, two = pair
    await subscribed(one.bus, "c.x")
    for number in range(200):
        two.bus.publish("c.x", b"%d" % number, lambda _: None)
        for text in ("c.*", "**"):
            if number % 2 == 0:
                one.bus.subscribe(pattern(text), lambda: None)
            else:
                one.bus.unsubscribe(pattern(text))
        if number % 7 == 0:
            await settled(two)
    await until(lambda: len(one.heard.events) >= 200)
    await settled(one)
    assert one.heard.events == [("c.x", b"%d" % number) for number in range(200)]


@pytest_twisted.ensureDeferred
async def test_subscribing_from_within_an_event_brings_no_duplicate(pair: Pair) -> None:
    """A listener that subscribes and unsubscribes while it is told of an event still gets each event once."""
    one, two = pair
    await subscribed(one.bus, "d.x", "d.*")

    def change(_: str) -> None:
        one.heard.on_event = None
        one.bus.subscribe(pattern("d.**"), lambda: None)
        one.bus.unsubscribe(pattern("d.x"))

    one.heard.on_event = change
    for number in range(10):
        two.bus.publish("d.x", b"%d" % number, lambda _: None)
    await until(lambda: len(one.heard.events) >= 10)
    await settled(one)
    assert one.heard.events == [("d.x", b"%d" % number) for number in range(10)]


@pytest_twisted.ensureDeferred
async def test_messages_reach_the_named_node_or_all_and_are_counted(pair: Pair) -> None:
    """`send` reaches one node, all nodes with the sender, or nobody, and says how many."""
    one, two = pair
    body = bytes(range(256))
    assert await sent(one.bus, "two", body) == 1
    assert await sent(two.bus, None, b"all") == 2
    assert await sent(one.bus, "three", b"nobody") == 0
    await until(lambda: len(two.heard.messages) == 2 and one.heard.messages)
    assert two.heard.messages == [body, b"all"]
    assert one.heard.messages == [b"all"]


@pytest_twisted.ensureDeferred
async def test_a_listener_that_fails_misses_no_other_event(pair: Pair, flush: Callable[[], int]) -> None:
    """An exception of the listener is logged; the next event and the bus do not suffer."""
    one, two = pair
    await subscribed(one.bus, "f")

    def fail(_: str) -> None:
        one.heard.on_event = None
        raise ValueError("on purpose")

    one.heard.on_event = fail
    await published(two.bus, "f", b"1")
    await published(two.bus, "f", b"2")
    await until(lambda: len(one.heard.events) == 2)
    assert one.heard.changes == []
    assert flush() == 1


@pytest_twisted.ensureDeferred
async def test_a_bus_that_is_not_connected_refuses_at_once(make: Make) -> None:
    """Before its start and after its stop publishing and sending fail, and subscribing is remembered."""
    bus, heard = make("early"), Recorder()
    answers: list[Any] = []
    bus.publish("a", b"1", answers.append)
    bus.send(None, b"", answers.append)
    bus.subscribe(pattern("a"), lambda: answers.append("subscribed"))
    assert not bus.available
    assert [getattr(answer, "code", answer) for answer in answers] == ["bus_unavailable", "bus_unavailable", "subscribed"]
    await bus.start(heard)
    assert await published(bus, "a", b"2") is None
    await until(lambda: heard.events)
    await bus.stop()
    error = await published(bus, "a", b"3")
    assert error is not None
    assert error.code == "bus_unavailable"
    assert heard.events == [("a", b"2")]
    assert heard.changes == []


@pytest_twisted.ensureDeferred
async def test_stopping_sends_what_was_accepted(pair: Pair, make: Make) -> None:
    """What was published in the turn in which the bus is stopped arrives, here and elsewhere."""
    one, _ = pair
    await subscribed(one.bus, "s")
    bus, heard = make("third"), Recorder()
    await bus.start(heard)
    await subscribed(bus, "s")
    answers: list[Position | NexusError | None] = []
    for number in range(50):
        bus.publish("s", b"%d" % number, answers.append)
    await bus.stop()
    await until(lambda: len(one.heard.events) == 50)
    assert answers == heard.positions == one.heard.positions
    assert heard.events == one.heard.events == [("s", b"%d" % number) for number in range(50)]
    assert heard.changes == []


# --- what goes with an event to other nodes


@pytest_twisted.ensureDeferred
async def test_what_goes_with_an_event_reaches_every_node_with_that_event(pair: Pair) -> None:
    """Any bytes, beside events without, in the order of publishing, also where several subscriptions match."""
    one, two = pair
    await subscribed(one.bus, "w.x", "w.*", "**")
    await subscribed(two.bus, "w.**")
    answers: list[Position | NexusError | None] = []
    sent = [b"" if number % 3 == 0 else bytes([number % 256, 13, 10, 0, 255]) * (number % 7 + 1) for number in range(300)]
    for number, metadata in enumerate(sent):
        one.bus.publish("w.x", b"%d" % number, answers.append, metadata)
    await until(lambda: all(len(node.heard.events) >= 300 for node in pair) and len(answers) >= 300)
    await settled(one, two)
    for node in pair:
        assert node.heard.events == [("w.x", b"%d" % number) for number in range(300)]
        assert node.heard.metadata == sent
    assert answers == one.heard.positions == two.heard.positions


@pytest_twisted.ensureDeferred
async def test_two_publishers_of_one_type_keep_what_goes_with_their_events_apart(pair: Pair) -> None:
    """Both publish at the same time, one with and one mostly without."""
    one, two = pair
    for node in pair:
        await subscribed(node.bus, "p.x", "p.**")
    for number in range(200):
        one.bus.publish("p.x", b'["one",%d]' % number, lambda _: None, b"one %d" % number)
        two.bus.publish("p.x", b'["two",%d]' % number, lambda _: None, b"two %d" % number if number % 5 == 0 else b"")
        if number % 10 == 0:
            await settled(one)
    await until(lambda: all(len(node.heard.events) >= 400 for node in pair))
    await settled(one, two)
    assert one.heard.events == two.heard.events
    assert one.heard.metadata == two.heard.metadata
    expected = {("p.x", b'["one",%d]' % number): b"one %d" % number for number in range(200)}
    expected |= {("p.x", b'["two",%d]' % number): b"two %d" % number for number in range(0, 200, 5)}
    assert len(one.heard.events) == 400
    for event, metadata in zip(one.heard.events, one.heard.metadata, strict=True):
        assert metadata == expected.get(event, b"")


@pytest_twisted.ensureDeferred
async def test_what_goes_with_events_stays_with_them_while_subscriptions_come_and_go(pair: Pair) -> None:
    """Patterns that match are taken up and given up while events travel."""
    one, two = pair
    await subscribed(one.bus, "q.x")
    for number in range(200):
        two.bus.publish("q.x", b"%d" % number, lambda _: None, b"about %d" % number)
        for text in ("q.*", "**"):
            if number % 2 == 0:
                one.bus.subscribe(pattern(text), lambda: None)
            else:
                one.bus.unsubscribe(pattern(text))
        if number % 7 == 0:
            await settled(two)
    await until(lambda: len(one.heard.events) >= 200)
    await settled(one)
    assert one.heard.events == [("q.x", b"%d" % number) for number in range(200)]
    assert one.heard.metadata == [b"about %d" % number for number in range(200)]


@pytest_twisted.ensureDeferred
async def test_prefixes_and_wildcards_of_wamp_bring_what_they_match(pair: Pair) -> None:
    """A prefix may end inside a component; a wildcard without an empty component is the one name, and brings it once."""
    one, two = pair
    for wanted in (Pattern.prefixed("m.ab"), Pattern.wildcard("m..c"), Pattern.wildcard("m.abc.d"), pattern("m.abc.d")):
        done: Deferred[None] = Deferred()
        one.bus.subscribe(wanted, lambda done=done: done.callback(None))  # type: ignore[misc]
        await done
    for event_type in ("m", "m.a", "m.ab", "m.x.c", "m.abc.d", "m.x.c.d", "n.ab", "m.b.ab", "m.ab.c"):
        assert await published(two.bus, event_type, b"1", event_type.encode()) is None
    await settled(one, two)
    await settled(one)
    assert [event_type for event_type, _ in one.heard.events] == ["m.ab", "m.x.c", "m.abc.d", "m.ab.c"]
    assert one.heard.metadata == [b"m.ab", b"m.x.c", b"m.abc.d", b"m.ab.c"]
    one.bus.unsubscribe(pattern("m.abc.d"))
    await subscribed(one.bus, "end")
    assert await published(two.bus, "m.abc.d", b"2") is None
    await until(lambda: len(one.heard.events) >= 5)
    assert one.heard.events[4] == ("m.abc.d", b"2")


@pytest_twisted.ensureDeferred
async def test_realms_are_worlds_of_their_own(make: Make) -> None:
    """Nodes of the same name in several realms, all of which want everything, hear what is published or sent in theirs."""
    realms = ["nexus", "realm1", "realm1:events", "com.example.*"]
    nodes = {realm: Node(make("same", realm), Recorder()) for realm in realms}
    for node in nodes.values():
        await node.bus.start(node.heard)
        await subscribed(node.bus, "**", "a", "events:a")
    for realm, node in nodes.items():
        assert await published(node.bus, "a", b'"%b"' % realm.encode(), realm.encode()) is None
        assert await published(node.bus, "events:a", b"1") is None
        assert await sent(node.bus, "same", realm.encode()) == 1
        assert await sent(node.bus, None, realm.encode()) == 1
    for node in nodes.values():
        await until(lambda node=node: len(node.heard.messages) >= 2 and len(node.heard.events) >= 2)  # type: ignore[misc]
    for node in nodes.values():
        await settled(node)
    for realm, node in nodes.items():
        assert node.heard.events == [("a", b'"%b"' % realm.encode()), ("events:a", b"1")]
        assert node.heard.metadata == [realm.encode(), b""]
        assert node.heard.messages == [realm.encode()] * 2
        assert node.heard.changes == []
        await node.bus.stop()
