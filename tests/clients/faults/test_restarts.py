"""Nodes that end: in order, by a kill, one after the other behind nginx."""

from __future__ import annotations

from collections import Counter

import pytest
import pytest_twisted

from tests.clients.faults.bed import Bed, Scenario, node_in, scenarios
from tests.clients.faults.conftest import SideBySide
from tests.clients.faults.program import COMMANDS
from tests.e2e.nginx import Nginx
from tests.e2e.server import Child
from tests.redis_server import RedisServer

MANY = 100


async def stopped_and_killed(bed: Bed) -> None:
    await bed.alone()
    client = await bed.watch(agent=bed.agent)
    orders = []
    for number, end in enumerate((bed.node.stop, bed.node.kill)):
        orders.append(client.tell("telemetry", first=2 * number * MANY + 1, last=(2 * number + 1) * MANY))
        await end()
        orders.append(client.tell("telemetry", first=(2 * number + 1) * MANY + 1, last=(2 * number + 2) * MANY))
        await bed.node.start()
        await bed.source.connect(bed.node)
        await client.fact("gap", after=len(client.facts))
        await bed.flows(client)
    for order in orders:
        await client.result(order)
    # The node's history is gone with it: each time that must be told.
    await bed.check(client, gaps=2)
    assert bed.stored() == Counter(range(1, 4 * MANY + 1))


async def before_its_publisher(bed: Bed) -> None:
    """It is back before the first event of its type: that one's epoch is another than the position that it was told."""
    await bed.alone()
    client = await bed.watch()
    await bed.node.kill()
    await bed.node.start()
    gap = await client.fact("gap")
    assert gap["position"].endswith(":0")
    await bed.source.connect(bed.node)
    await bed.flows(client)
    first = next(fact for fact in client.facts[client.facts.index(gap) :] if fact["fact"] == "event")
    assert first["position"].endswith(":1") and first["position"][:-1] != gap["position"][:-1]
    await bed.check(client, gaps=1)


@scenarios(stopped_and_killed, before_its_publisher)
@pytest_twisted.ensureDeferred
async def test_a_node_gets_its_client_back(scenario: Scenario, language: str, side_by_side: SideBySide) -> None:
    await side_by_side(scenario, language)


async def behind_nginx(bed: Bed) -> None:
    """Two nodes with one history are restarted one after the other; clients of all languages are behind the proxy."""
    redis = RedisServer()
    children: list[Child] = []
    beds: list[Bed] = []
    try:
        redis.start()
        nodes = [node_in(bed.directory, "--bus", redis.url, name=name) for name in ("one", "two")]
        children += nodes
        for node in nodes:
            node.launch()
        for node in nodes:
            await node.ready()
        front = Nginx(bed.directory, [node.port for node in nodes])
        children.append(front)
        await front.start()
        clients = []
        for language in COMMANDS:
            each = Bed(bed.directory, language, nodes[1], front.port)
            beds.append(each)
            clients.append(await each.watch(url=f"https://localhost:{each.wire.port}", authority=str(front.authority)))
        for number, node in enumerate(nodes):
            for each in beds:
                await each.source.connect(nodes[1 - number])
            await node.stop()
            await node.start()
            for each, client in zip(beds, clients, strict=True):
                await each.flows(client)
        for each, client in zip(beds, clients, strict=True):
            await each.check(client)
        assert sum(len(each.wire.arrivals) for each in beds) > len(beds), "nobody had to move"
    finally:
        for each in beds:
            each.discard()
        for child in reversed(children):
            child.discard()
        redis.close()


@scenarios(behind_nginx)
@pytest.mark.parametrize("language", ["all"])
@pytest_twisted.ensureDeferred
async def test_a_rolling_restart_loses_nothing(scenario: Scenario, language: str, side_by_side: SideBySide) -> None:
    await side_by_side(scenario, language)
