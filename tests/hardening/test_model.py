"""Subscriptions over real sockets against a model that knows only the contract's words.

Subscriptions alone are held against a model in `tests/pubsub/test_subscribing.py`; frames against Autobahn's parser in
`tests/transport/test_lane.py`; any bytes as messages in `tests/protocols/native/test_session.py`.
"""

from __future__ import annotations

from typing import Any

import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from tests.client import Client
from tests.conftest import LONG
from tests.node import Node, Nodes, clock

CLIENTS = 3
NAMES = ("a", "b", "a.a", "a.b", "b.a", "a.b.a")
PATTERNS = (*NAMES, "*", "**", "a.*", "*.a", "a.**", "*.*", "*.**", "a.*.a")
FILTERS: tuple[Any, ...] = (None, {}, {"n": 1}, {"n": {"gt": 1}}, {"m.x": True}, {"n": {"in": [0, 2]}}, {"n": None})
DATA: tuple[Any, ...] = ({"n": 1}, {"n": 2, "m": {"x": True}}, {"n": 0}, {"n": None}, {}, 1, None, [1])

events = st.lists(st.sampled_from(PATTERNS), max_size=3)
client = st.integers(0, CLIENTS - 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), client, events, st.sampled_from(FILTERS)),
        st.tuples(st.just("unsubscribe"), client, events),
        st.tuples(st.just("publish"), client, st.sampled_from(NAMES), st.sampled_from(DATA)),
        st.tuples(st.just("publish"), client, st.sampled_from(NAMES), st.sampled_from(DATA)),
        st.tuples(st.just("leave"), client, st.sampled_from(["drop", "leave"])),
        st.tuples(st.just("nonsense"), client, st.sampled_from(["{", '{"type":"subscribe","events":["a",1]}', '{"type":"x"}'])),
    ),
    max_size=25,
)


def stands_for(pattern: list[str], name: list[str]) -> bool:
    if not pattern or not name:
        return not pattern and not name
    if pattern == ["**"]:
        return True
    return pattern[0] in ("*", name[0]) and stands_for(pattern[1:], name[1:])


def passes(condition: Any, data: Any) -> bool:
    """The filters above, word by word."""
    if not condition:
        return True
    if not isinstance(data, dict):
        return False
    if "m.x" in condition:
        return bool(data.get("m") == {"x": True})
    if "n" not in data:
        return False
    number, wanted = data["n"], condition["n"]
    if not isinstance(wanted, dict):
        return bool(number == wanted)
    if "gt" in wanted:
        return number is not None and bool(number > wanted["gt"])
    return number in wanted["in"]


class Person:
    """A client, and what the model says that it has subscribed to and must have heard."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.pairs: list[tuple[str, Any]] = []
        self.due: list[tuple[str, Any]] = []

    async def check(self) -> None:
        heard = [(message["eventType"], message["data"]) for message in await self.client.heard() if message["type"] == "event"]
        assert heard == self.due
        self.due = []


async def play(node: Node, story: list[tuple[Any, ...]]) -> None:
    people = [Person(await node.client()) for _ in range(CLIENTS)]
    try:
        await tell(node, people, story)
    finally:
        for person in people:
            person.client.drop()
    await node.connected(0)
    assert not node.left()


async def tell(node: Node, people: list[Person], story: list[tuple[Any, ...]]) -> None:
    for what, who, *rest in story:
        person = people[who]
        if what == "subscribe":
            reply = await person.client.ask(type="subscribe", events=rest[0], filters=rest[1])
            assert reply["type"] == "subscribed" and reply["events"] == rest[0]
            person.pairs += [(text, rest[1]) for text in rest[0]]
        elif what == "unsubscribe":
            assert (await person.client.ask(type="unsubscribe", events=rest[0]))["type"] == "unsubscribed"
            person.pairs = [pair for pair in person.pairs if pair[0] not in rest[0]]
        elif what == "publish":
            name, data = rest
            for other in people:
                pairs = other.pairs
                if any(stands_for(text.split("."), name.split(".")) and passes(filter_, data) for text, filter_ in pairs):
                    other.due.append((name, data))
            assert (await person.client.ask(type="publish", eventType=name, data=data))["type"] == "published"
            for other in people:
                await other.check()
        elif what == "nonsense":
            person.client.send_text(rest[0])
            assert (await person.client.receive())["type"] == "error"
        else:
            await person.check()
            getattr(person.client, rest[0])()
            people[who] = Person(await node.client())
    for person in people:
        await person.check()


@pytest_twisted.ensureDeferred
async def test_whatever_clients_do_each_hears_exactly_what_it_subscribed_to_in_order(nodes: Nodes) -> None:
    node: Node = await nodes()

    def told(story: list[tuple[Any, ...]]) -> Any:
        return ensureDeferred(play(node, story))

    @settings(max_examples=500 if LONG else 50)
    @given(steps)
    def each(story: list[tuple[Any, ...]]) -> None:
        # Hypothesis calls and waits, which the reactor's own thread cannot.
        blockingCallFromThread(clock, told, story)

    await deferToThread(each)
