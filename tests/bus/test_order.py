"""Order on a real Redis: subscribe then publish in one write deliver the event, and `published` never comes first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.model.metrics import Metrics
from tests.bus.gate import Gate
from tests.client import TEXT, frame
from tests.node import TOKEN, Node, Nodes, clock
from tests.node import nodes as nodes
from tests.redis_server import RedisServer, running
from tests.wamp.peer import EVENT, PUBLISH, PUBLISHED, SUBSCRIBE, SUBSCRIBED, UNSUBSCRIBE, UNSUBSCRIBED, Peer, connect

ROUNDS = 10


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


async def on(redis_url: str, nodes: Nodes, name: str = "one") -> Node:
    return await nodes(bus=RedisBus(parse(redis_url), clock, Metrics(), name))


async def joined(node: Node) -> Peer:
    peer = await connect(node.port, token=TOKEN)
    node.wires.append(peer._client.wire)
    return await peer.join("nexus")


def together(*messages: dict[str, Any]) -> bytes:
    return b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages)


@pytest_twisted.ensureDeferred
async def test_subscribe_then_publish_in_one_write_delivers_the_event_and_published_never_comes_before_subscribed(
    redis: RedisServer, nodes: Nodes
) -> None:
    node = await on(redis.url, nodes)
    client, late = await node.client(), await node.client()
    for number in range(ROUNDS):
        topic = f"topic.{number}"
        client.write(
            together(
                {"type": "subscribe", "events": [topic]},
                {"type": "publish", "eventType": topic, "data": number},
                {"type": "publish", "eventType": topic, "data": number + 1},
            )
        )
        heard = [await client.receive() for _ in range(5)]
        assert heard[0]["type"] == "subscribed"
        assert [message["data"] for message in heard if message["type"] == "event"] == [number, number + 1]
        assert [message["type"] for message in heard].count("published") == 2
    # Unsubscribing waits its turn as well: what comes before it was published for nobody, what follows too.
    late.write(
        together(
            {"type": "subscribe", "events": ["late"]},
            {"type": "unsubscribe", "events": ["late"]},
            {"type": "publish", "eventType": "late", "data": 1},
            {"type": "subscribe", "events": ["later"]},
            {"type": "publish", "eventType": "later", "data": 2},
        )
    )
    heard = [await late.receive() for _ in range(6)]
    assert [message["type"] for message in heard if message["type"] != "published"] == [
        "subscribed",
        "unsubscribed",
        "subscribed",
        "event",
    ]
    assert node.server.realms["nexus"].waiting == {}


@pytest_twisted.ensureDeferred
async def test_wamp_subscribe_then_publish_in_one_write_delivers_the_event(redis: RedisServer, nodes: Nodes) -> None:
    peer = await joined(await on(redis.url, nodes))
    for number in range(ROUNDS):
        topic, request = f"com.topic.{number}", 3 * number
        peer.send(SUBSCRIBE, request + 1, {}, topic)
        peer.send(PUBLISH, request + 2, {"acknowledge": True, "exclude_me": False}, topic, [number])
        subscribed, *rest = [await peer.receive() for _ in range(3)]
        assert subscribed[:2] == [SUBSCRIBED, request + 1]
        assert sorted(message[0] for message in rest) == [PUBLISHED, EVENT]
        peer.send(UNSUBSCRIBE, request + 3, subscribed[2])
        assert await peer.receive() == [UNSUBSCRIBED, request + 3]


@pytest_twisted.ensureDeferred
async def test_what_follows_a_subscribe_waits_while_redis_does_not_confirm_it(redis: RedisServer, nodes: Nodes) -> None:
    gate = Gate(redis.port)
    await gate.open()
    try:
        node = await on(gate.url, nodes)
        client, other = await node.client(), await node.client()
        held: list[list[bytes]] = []

        def hold_back(command: list[bytes]) -> bytes | None:
            if command[0] == b"SUBSCRIBE":
                held.append(command)
                return b""
            return None

        gate.answer = hold_back
        client.write(together({"type": "subscribe", "events": ["a"]}, {"type": "publish", "eventType": "a", "data": 1}))
        assert (await other.ask(type="publish", eventType="b", data=1))["type"] == "published", "others do not wait"
        assert await client.heard() == []
        assert node.metrics.messages_queued == 1
        # The link ends; while the bus is away a subscribe is accepted and a publish refused, still in their order.
        gate.answer = lambda _command: None
        for one in list(gate._open):
            one.drop()
        heard = [await client.receive() for _ in range(2)]
        assert [message["type"] for message in heard] == ["subscribed", "error"]
        assert heard[1]["code"] == "bus_unavailable"
        assert held
    finally:
        stopped: Deferred[None] = Deferred.fromCoroutine(nodes.stop())
        await stopped
        nodes._nodes.clear()
        await gate.close()


@pytest_twisted.ensureDeferred
async def test_events_of_one_publisher_keep_their_order_from_node_to_node_whichever_topic(
    redis: RedisServer, nodes: Nodes
) -> None:
    one, two = await on(redis.url, nodes, "one"), await on(redis.url, nodes, "two")
    subscriber, publisher = await joined(two), await joined(one)
    for topic in ("com.a", "com.b"):
        await subscriber.subscribe(topic)
    for number in range(50):
        publisher.tell(("com.a", "com.b")[number % 2], [number], disclose_me=number % 3 == 0)
    assert [(await subscriber.event()).args for _ in range(50)] == [[number] for number in range(50)]
