"""Two nodes on one Redis, beside a program that only knows Redis: who hears what, and what happens when Redis is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from nexus_client.errors import CommandError, RequestError
from nexus_client.events import Gap
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from tests.e2e.agent import Agent, connect
from tests.e2e.clients import PATIENCE, Clients, listen
from tests.e2e.foreign import join
from tests.e2e.server import NexusServer, clock, until
from tests.redis_server import RedisServer

TYPE = "build.done"
OTHER = "build.begun"
ROUNDS = 5
LAST = {"last": True}


@dataclass
class Cluster:
    redis: RedisServer
    nodes: list[NexusServer]

    async def ask(self, node: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of an answer over HTTP."""
        server = self.nodes[node]
        data = None if body is None else json.dumps(body).encode()
        answer = await treq.request(
            method,
            server.http + path,
            headers=Headers({"Authorization": [f"Bearer {server.token}"]}),
            data=data,
            timeout=10,
            persistent=False,
        )
        return answer.code, json.loads(await treq.content(answer))

    async def status(self, node: int, wanted: int, seconds: float) -> None:
        """Wait until `/health/ready` answers with that status; fail if that takes longer."""
        end = clock.seconds() + seconds
        while (await self.ask(node, "GET", "/health/ready"))[0] != wanted:
            assert clock.seconds() < end, f"not {wanted} after {seconds} s:\n{self.nodes[node].output}"
            await deferLater(clock, 0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes and their Redis; nothing is started yet."""
    redis = RedisServer()
    nodes = [NexusServer(tmp_path, "--bus", redis.url, name=name) for name in ("one", "two")]
    try:
        yield Cluster(redis, nodes)
    finally:
        for node in nodes:
            node.discard()
        redis.close()


@pytest_twisted.async_yield_fixture
async def running(cluster: Cluster) -> Any:
    """The same, started and ready."""
    cluster.redis.start()
    for node in cluster.nodes:
        node.launch()
    for number, node in enumerate(cluster.nodes):
        await node.ready()
        await cluster.status(number, 200, 10)
    yield cluster


async def subscriber(node: NexusServer, *subscriptions: dict[str, Any]) -> Agent:
    """A connection on which whatever the server sends twice is seen twice: our clients would not let that through."""
    agent = await connect(node.ws, node.token)
    for members in subscriptions:
        agent.tell(type="subscribe", **members)
        await agent.next("subscribed")
    return agent


async def events(agent: Agent) -> list[tuple[str, Any]]:
    """(event type, data) of all events up to the second `LAST`. Between the two every other one would show that came twice."""
    heard: list[tuple[str, Any]] = []
    while heard.count((TYPE, LAST)) < 2:
        message = await agent.next("event")
        heard.append((message["eventType"], message["data"]))
    return heard


WAYS: dict[str, list[dict[str, Any]]] = {
    "by type": [{"events": [TYPE]}],
    "by pattern": [{"events": ["build.*"]}],
    "by a deep pattern": [{"events": ["build.**"]}],
    "filtered": [{"events": [TYPE], "filters": {"round": 1}}, {"events": [TYPE], "filters": LAST}],
    "by pattern, filtered": [{"events": ["*.done"], "filters": {"round": 1}}, {"events": ["*.done"], "filters": LAST}],
    "in several ways at once": [{"events": [TYPE, "build.*", "**"]}, {"events": [TYPE], "filters": {"round": 1}}],
}


@pytest_twisted.ensureDeferred
async def test_whoever_publishes_each_subscriber_on_each_node_hears_it_exactly_once(
    running: Cluster, clients: Clients
) -> None:
    foreign = await join(running.redis.port)
    await foreign.subscribe(TYPE)
    places = [(way, node) for way in WAYS for node in (0, 1)]
    agents = {place: await subscriber(running.nodes[place[1]], *WAYS[place[0]]) for place in places}
    publishers = [await clients.connect(node) for node in running.nodes]

    async def publish(by: str, event_type: str, data: Any) -> None:
        if by == "foreign":
            await foreign.publish(event_type, data)
        elif by.startswith("http"):
            body = {"eventType": event_type, "data": data}
            assert (await running.ask(int(by[-1]), "POST", "/api/v1/events", body))[0] == 200
        else:
            await publishers[int(by[-1])].publish(event_type, data)

    published: list[tuple[str, Any]] = []
    for number in range(ROUNDS):
        for by in ("client 0", "client 1", "http 0", "http 1", "foreign"):
            published.append((TYPE, {"by": by, "round": number}))
            await publish(by, *published[-1])
    await publish("client 0", OTHER, {"round": 1})
    for _ in range(2):
        await foreign.publish(TYPE, LAST)

    end = [(TYPE, LAST)] * 2
    first = [event for event in published if event[1]["round"] == 1]
    other = (OTHER, {"round": 1})
    for place, agent in agents.items():
        heard = await events(agent)
        if "filtered" in place[0]:
            assert heard == first + end, place
            continue
        # Each type has its order, and no more is promised.
        assert [event for event in heard if event[0] == TYPE] == published + end, place
        others = [event for event in heard if event[0] != TYPE]
        assert others == ([] if place[0] == "by type" else [other]), place
    await until(lambda: len(foreign.heard) >= len(published + end), what="for what another program hears")
    assert foreign.heard == published + end
    foreign.leave()
    for agent in agents.values():
        await agent.leave()


@pytest_twisted.ensureDeferred
async def test_what_the_server_itself_tells_is_heard_on_the_other_node_and_by_others_on_redis(
    running: Cluster, clients: Clients
) -> None:
    foreign = await join(running.redis.port)
    await foreign.subscribe("telemetry.received")
    samples = await listen(await clients.connect(running.nodes[1]), "telemetry.received")
    agent = await clients.connect(running.nodes[0], agent="agent-001")
    await (await agent.telemetry(cpu=1)).stored()
    data = (await samples.next()).data
    assert (data["agentId"], data["metrics"]) == ("agent-001", {"cpu": 1})
    await until(lambda: foreign.heard, what="for what another program hears")
    assert foreign.heard == [("telemetry.received", data)]
    foreign.leave()


@pytest_twisted.ensureDeferred
async def test_what_is_not_json_on_an_event_channel_disturbs_nobody(running: Cluster, clients: Clients) -> None:
    builds = await listen(await clients.connect(running.nodes[0]), TYPE)
    running.redis.ask("PUBLISH", f"nexus:events:{TYPE}", b"{not json \xff")
    running.redis.ask("PUBLISH", f"nexus:events:{TYPE}", b"1")
    assert (await builds.next()).data == 1
    await until(lambda: "Dropped what was published" in running.nodes[0].output, what="the line in the log")
    assert running.nodes[0].output.count("Dropped what was published") == 1


@pytest_twisted.ensureDeferred
async def test_a_broadcast_reaches_the_clients_of_all_nodes_and_counts_them(running: Cluster, clients: Clients) -> None:
    told: list[Deferred[Any]] = []
    for node in (0, 0, 1):
        told.append(Deferred())
        (await clients.connect(running.nodes[node])).on_broadcast(told[-1].callback)
    assert await running.ask(1, "POST", "/api/v1/broadcast", {"data": "hello"}) == (200, {"recipients": 3})
    assert await gatherResults(told).addTimeout(PATIENCE, clock) == ["hello"] * 3


@pytest_twisted.ensureDeferred
async def test_while_redis_is_away_it_is_said_and_afterwards_all_is_as_before(running: Cluster, clients: Clients) -> None:
    streams = [await listen(await clients.connect(node), TYPE, "telemetry.*") for node in running.nodes]
    agent = await clients.connect(running.nodes[0], agent="agent-001")
    running.redis.kill()
    await gatherResults([ensureDeferred(running.status(node, 503, 5)) for node in (0, 1)])

    with pytest.raises(RequestError) as refused:
        await agent.publish(TYPE, "lost")
    assert (refused.value.code, refused.value.retryable) == ("bus_unavailable", True)
    status, problem = await running.ask(1, "POST", "/api/v1/events", {"eventType": TYPE, "data": "lost"})
    assert (status, problem["code"]) == (503, "bus_unavailable")
    await (await agent.telemetry(cpu=1)).stored()

    running.redis.start()
    await gatherResults([ensureDeferred(running.status(node, 200, 2)) for node in (0, 1)])
    for stream in streams:
        gap = await stream.item()
        # The pattern, or a type of it that another node began meanwhile.
        assert isinstance(gap, Gap) and gap.type in (TYPE, "telemetry.*", "telemetry.received") and gap.reason == "server"
    received = (await streams[0].past_gaps()).data
    assert (received["agentId"], received["metrics"]) == ("agent-001", {"cpu": 1})
    await agent.publish(TYPE, "found")
    for stream in streams:
        while (heard := await stream.past_gaps()).type != TYPE:
            assert heard.data == received
        assert heard.data == "found"


@pytest_twisted.ensureDeferred
async def test_what_a_node_missed_while_its_link_was_cut_comes_in_order_and_once(running: Cluster, clients: Clients) -> None:
    watchers = [await clients.connect(node) for node in running.nodes]
    streams = [await listen(watcher, pattern) for watcher, pattern in zip(watchers, (TYPE, "build.*"), strict=True)]
    publishers = [await clients.connect(node) for node in running.nodes]
    sent = 0
    for number in range(40):
        if number % 10 == 5:
            for kind in ("normal", "pubsub"):
                running.redis.ask("CLIENT", "KILL", "TYPE", kind)
        with suppress(RequestError):
            await publishers[number % 2].publish(TYPE, number)
            sent += 1
    for node in (0, 1):
        await running.status(node, 200, 5)
    last = await publishers[0].publish(TYPE, LAST)
    for watcher, stream in zip(watchers, streams, strict=True):
        positions = [str((await stream.next()).position)]
        while positions[-1] != last:
            positions.append(str((await stream.next()).position))
        offsets = [int(position.rpartition(":")[2]) for position in positions]
        assert offsets == list(range(1, len(offsets) + 1)) and len(offsets) > sent
        assert watcher.stats.duplicates == 0, "the server itself sends each once"


@pytest_twisted.ensureDeferred
async def test_a_redis_that_hangs_is_noticed_like_one_that_is_gone(running: Cluster) -> None:
    running.redis.pause()
    try:
        await running.status(0, 503, 5)
    finally:
        running.redis.resume()
    await running.status(0, 200, 2)


@pytest_twisted.ensureDeferred
async def test_without_redis_at_the_start_a_node_says_so_once_serves_its_own_and_finds_it_later(
    cluster: Cluster, clients: Clients
) -> None:
    node = cluster.nodes[0]
    await node.start()
    status, problem = await cluster.ask(0, "GET", "/health/ready")
    assert status == 503, problem
    watcher = await clients.connect(node)
    builds = await listen(watcher, TYPE)
    agent = await clients.connect(node, agent="agent-001", commands={"deploy": lambda call: "done"})
    await (await agent.telemetry(cpu=1)).stored()
    with pytest.raises(CommandError) as refused:  # what is written nowhere might be executed twice
        await watcher.call("deploy", target="agent-001")
    assert (refused.value.code, refused.value.retryable) == ("bus_unavailable", True)
    said = [line for line in node.output.splitlines() if "RedisBus" in line]
    assert len(said) == 1, node.output
    assert f"127.0.0.1:{cluster.redis.port}" in said[0]

    cluster.redis.start()
    await cluster.status(0, 200, 2)
    foreign = await join(cluster.redis.port)
    await foreign.publish(TYPE, "hello")
    assert (await builds.past_gaps()).data == "hello"
    foreign.leave()
    assert await watcher.call("deploy", target="agent-001") == "done"
