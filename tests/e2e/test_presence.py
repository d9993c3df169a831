"""Presence over two nodes on one Redis: a client that moves, a node that dies, a Redis that is flushed, and 4003."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.client import Client, dial, greeted, handshake
from tests.e2e.server import NexusServer, clock, until
from tests.redis_server import RedisServer

GRACE = 3


class Fleet:
    def __init__(self, directory: Path) -> None:
        self.redis = RedisServer()
        self.nodes = [
            NexusServer(directory, "--bus", self.redis.url, name=name, env={"NEXUS_PRESENCE__GRACE": str(GRACE)})
            for name in ("one", "two")
        ]
        self._clients: list[Client] = []

    async def start(self) -> None:
        self.redis.start()
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            await node.ready()

    async def client(self, number: int) -> Client:
        node = self.nodes[number]
        wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", node.port))
        wire.write(handshake(token=node.token))
        client = await greeted(wire)
        self._clients.append(client)
        return client

    async def agent(self, number: int, agent_id: str) -> Client:
        """Return a connection that has registered the agent."""
        client = await self.client(number)
        reply = await client.ask(type="register", commands=[], agentId=agent_id)
        assert reply["type"] == "registered", reply
        return client

    def close(self) -> None:
        for client in self._clients:
            client.drop()
        for node in self.nodes:
            node.discard()
        self.redis.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


async def change(watcher: Client) -> tuple[str, str]:
    """Return the next change of a status that the watcher is told; of a new epoch it may be told, too."""
    event = await watcher.receive()
    while event["type"] == "continuity":
        event = await watcher.receive()
    assert event["type"] == "event", event
    return event["data"]["agentId"], event["data"]["status"]


@pytest_twisted.ensureDeferred
async def test_each_change_is_told_once_by_two_nodes_that_move_clients_die_and_find_redis_flushed(fleet: Fleet) -> None:
    await fleet.start()
    watcher = await fleet.client(0)
    await watcher.subscribe("agent.status")
    first = await fleet.agent(1, "mover")
    leaver = await fleet.agent(0, "leaver")
    await fleet.agent(0, "stays")
    await fleet.agent(1, "doomed")
    changes = [await change(watcher) for _ in range(4)]
    assert sorted(changes) == [(agent_id, "online") for agent_id in ("doomed", "leaver", "mover", "stays")]

    first.drop()
    second = await fleet.agent(0, "mover")
    third = await fleet.agent(1, "mover")
    assert await second.closed() == (4003, "Replaced by a newer connection")
    moved = clock.seconds()

    fleet.redis.ask("FLUSHALL")
    await until(lambda: all("lost its data" in node.output for node in fleet.nodes), what="for the nodes to notice")
    leaver.drop()
    assert await change(watcher) == ("leaver", "offline"), "the first change since then, after its grace"
    assert clock.seconds() - moved >= GRACE, "and after those of the mover"
    await fleet.agent(0, "leaver")
    assert await change(watcher) == ("leaver", "online")
    assert (await third.ask(type="ping"))["type"] == "pong"

    await fleet.nodes[1].kill()
    assert sorted([await change(watcher), await change(watcher)]) == [("doomed", "offline"), ("mover", "offline")]
    await fleet.agent(0, "mover")
    assert await change(watcher) == ("mover", "online")
