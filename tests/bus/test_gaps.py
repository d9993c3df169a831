"""No silent gap on a real Redis: an event that it refuses is told by `continuity` as soon as it takes something again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted

from nexus_tw.bus.redis.address import parse
from nexus_tw.bus.redis.bus import RedisBus
from nexus_tw.model.metrics import Metrics
from tests.bus.gate import Gate, pass_on
from tests.node import TOKEN, Nodes, clock, until
from tests.node import nodes as nodes
from tests.redis_server import RedisServer, running
from tests.wamp.peer import EVENT, PUBLISH, connect


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


@pytest_twisted.ensureDeferred
async def test_an_event_of_the_servers_own_that_redis_refuses_is_told_on_every_node_without_the_bus_being_away(
    redis: RedisServer, nodes: Nodes
) -> None:
    gate = Gate(redis.port)
    await gate.open()
    try:
        buses = [RedisBus(parse(url), clock, Metrics(), name) for url, name in ((gate.url, "one"), (redis.url, "two"))]
        one, two = [await nodes(bus=bus) for bus in buses]
        here, there, agent = await one.client(), await two.client(), await one.client()
        for watcher in (here, there):
            await watcher.subscribe("telemetry.*", "com.unacknowledged")

        def refuse(command: list[bytes]) -> bytes | None:
            if command[0] == b"PUBLISH" and b"canary" not in command[1]:
                return b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
            return None

        gate.answer = refuse
        ack = await agent.ask(type="telemetry", agentId="a-1", metrics={"x": 1})
        assert ack["type"] == "telemetry_ack"
        await until(lambda: one.metrics.events_dropped["bus"] == 1)  # agent.status is published by a script
        assert await here.heard() == await there.heard() == []
        gate.answer = pass_on
        for watcher in (here, there):
            gap = await watcher.expect("continuity", recovered=False)
            assert gap["eventType"] == "telemetry.received"
        assert buses[0].available and one.metrics.bus_reconnects == 0

        # A publication of which nobody else learns that it was refused.
        peer = await connect(one.port, token=TOKEN)
        one.wires.append(peer._client.wire)
        await peer.join("nexus")
        gate.answer = refuse
        peer.send(PUBLISH, 1, {}, "com.unacknowledged", ["lost"])
        await until(lambda: one.metrics.publications_refused["bus_unavailable"] == 1)
        gate.answer = pass_on
        for watcher in (here, there):
            await watcher.expect("continuity", eventType="com.unacknowledged", recovered=False)
        assert EVENT not in [message[0] for message in peer._later]
    finally:
        await nodes.stop()
        nodes._nodes.clear()
        await gate.close()
