"""Nodes that end: in order, by a kill, one after the other behind nginx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from tests.clients.faults.bed import Bed, Scenario, node_in, scenarios
from tests.clients.faults.conftest import SideBySide
from tests.clients.faults.program import COMMANDS
from tests.e2e.nginx import Nginx
from tests.e2e.server import NexusServer
from tests.redis_server import RedisServer
from tests.redis_server import redis_server as redis_server

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


@scenarios(stopped_and_killed)
@pytest_twisted.ensureDeferred
async def test_a_node_gets_its_client_back(scenario: Scenario, language: str, side_by_side: SideBySide) -> None:
    await side_by_side(scenario, language)


@pytest.fixture
def nodes(tmp_path: Path, redis_server: RedisServer) -> Iterator[list[NexusServer]]:
    """Two nodes with one history."""
    made = [node_in(tmp_path, "--bus", redis_server.url, name=name) for name in ("one", "two")]
    for node in made:
        node.launch()
    yield made
    for node in made:
        node.discard()


@pytest_twisted.ensureDeferred
async def test_a_rolling_restart_behind_nginx_loses_nothing(tmp_path: Path, nodes: list[NexusServer]) -> None:
    front = Nginx(tmp_path, [node.port for node in nodes])
    beds: list[Bed] = []
    try:
        for node in nodes:
            await node.ready()
        await front.start()
        clients = []
        for language in COMMANDS:
            bed = Bed(tmp_path, language, nodes[1], front.port)
            beds.append(bed)
            url = f"https://localhost:{bed.wire.port}"
            clients.append(await bed.watch(url=url, authority=str(front.authority)))
        for number, node in enumerate(nodes):
            for bed in beds:
                await bed.source.connect(nodes[1 - number])
            await node.stop()
            await node.start()
            for bed, client in zip(beds, clients, strict=True):
                await bed.flows(client)
        for bed, client in zip(beds, clients, strict=True):
            await bed.check(client)
        assert sum(len(bed.wire.arrivals) for bed in beds) > len(beds), "nobody had to move"
    finally:
        for bed in beds:
            bed.discard()
        front.discard()
