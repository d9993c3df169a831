"""Workers: several processes on one port, with a real Redis between them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_twisted
import treq
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from tests.client import Client, dial, greeted, handshake
from tests.e2e.server import NexusServer, clock, until
from tests.redis_server import RedisServer, redis_server

__all__ = ["redis_server"]


@pytest.fixture
def server(tmp_path: Path, redis_server: RedisServer) -> Iterator[NexusServer]:
    made = NexusServer(tmp_path, "--workers", "2", "--bus", redis_server.url)
    yield made
    made.discard()
    for pid in Seen.pids:  # in case that they have outlived their parent, which is a failure
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    Seen.pids.clear()


class Seen:
    """All workers that a test has seen."""

    pids: ClassVar[set[int]] = set()


def workers(server: NexusServer) -> list[int]:
    """The process ids of the parent's children."""
    try:
        pids = [int(pid) for pid in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    Seen.pids.update(pids)
    return pids


def alive(pid: int) -> bool:
    """Return whether the process runs, and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def sockets(pid: int) -> int:
    descriptors = Path(f"/proc/{pid}/fd")
    return sum(os.readlink(each).startswith("socket:") for each in descriptors.iterdir())


async def connect(server: NexusServer) -> Client:
    wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", server.port))
    wire.write(handshake(token=server.token))
    return await greeted(wire)


async def serving(server: NexusServer) -> list[int]:
    """Wait until both workers listen."""
    await server.start()
    await until(lambda: server.output.count(" listens on ") >= 2, what=server.output)
    return workers(server)


async def publish(client: Client, data: int) -> None:
    """Publish, and retry until the worker has connected to its Redis."""
    while (reply := await client.ask(type="publish", eventType="a.b", data=data)).get("code") == "bus_unavailable":
        await deferLater(clock, 0.05)
    assert reply["type"] == "published"


@pytest_twisted.ensureDeferred
async def test_both_serve_one_that_dies_is_replaced_and_sigterm_ends_all(server: NexusServer) -> None:
    first = await serving(server)
    assert len(first) == 2
    before = {pid: sockets(pid) for pid in first}
    clients = []
    while not all(sockets(pid) > before[pid] + 5 for pid in first):  # whoever wakes up first takes the next one
        clients.append(await connect(server))
        assert len(clients) < 500, "one of them never serves"
    for client in clients:
        await client.subscribe("a.b")
    await publish(clients[0], 1)
    for client in clients:
        await client.expect("event", data=1)

    os.kill(first[0], signal.SIGKILL)
    await until(lambda: len(workers(server)) == 2 and first[0] not in workers(server))
    await until(lambda: server.output.count(" listens on ") >= 3, what=server.output)
    survivors = []
    for client in clients:
        try:
            await client.heard()
            survivors.append(client)
        except Exception:  # those of the worker that was killed
            continue
    assert 0 < len(survivors) < len(clients)
    newcomer = await connect(server)
    await publish(newcomer, 2)
    for client in survivors:
        await client.expect("event", data=2)

    pids = workers(server)
    server.signal(signal.SIGTERM)
    for client in (*survivors, newcomer):
        assert await client.closed() == (1000, "Server shutting down")
    assert await server.ended() in (0, -signal.SIGTERM)
    await until(lambda: not any(map(alive, pids)))
    assert "Traceback" not in server.output
    assert server.token not in server.output


async def executing(server: NexusServer, agent_id: str) -> Client:
    """Return a connection that executes `deploy` as that agent."""
    agent = await connect(server)
    assert (await agent.ask(type="register", commands=["deploy"], agentId=agent_id))["type"] == "registered"
    return agent


async def node_of(server: NexusServer, agent_id: str) -> str:
    """Return the node that has the agent, once the worker that is asked has heard of it."""
    headers = Headers({"Authorization": [f"Bearer {server.token}"]})
    while True:
        answer = await treq.get(f"{server.http}/api/v1/agents/{agent_id}", headers=headers, timeout=10, persistent=False)
        told = json.loads(await treq.content(answer))
        if answer.code == 200 and told["status"] == "online":
            return str(told["node"])


async def outcomes(caller: Client, count: int) -> dict[str, Any]:
    """Return so many results by the ids of their commands."""
    found: dict[str, Any] = {}
    while len(found) < count:
        result = await caller.expect("command_result")
        found[result["commandId"]] = result["data"]["result"]
    return found


@pytest_twisted.ensureDeferred
async def test_commands_and_presence_are_of_all_workers_and_outlive_one_that_dies(server: NexusServer) -> None:
    pids = await serving(server)
    agents: dict[str, Client] = {}
    nodes: dict[str, str] = {}
    while len(set(nodes.values())) < 2:  # whoever wakes up first takes the next one
        name = f"agent-{len(agents)}"
        agents[name] = await executing(server, name)
        nodes[name] = await node_of(server, name)
        assert len(agents) < 500, "one of them never serves"
    wanted = [{"command": "deploy", "commandId": name, "target": name, "retries": 1, "ttl": 20} for name in agents]
    caller = await connect(server)
    for command in wanted:
        caller.send(type="command", **command)
    for name, agent in agents.items():
        assert (await agent.expect("command"))["commandId"] == name

    os.kill(pids[0], signal.SIGKILL)
    await until(lambda: len(workers(server)) == 2 and pids[0] not in workers(server))
    lost = set()
    for name, agent in agents.items():
        try:
            await agent.heard()
        except Exception:  # its worker was killed
            lost.add(name)
    (dead,) = {nodes[name] for name in lost}
    assert lost == {name for name in agents if nodes[name] == dead}
    for name in lost:
        agents[name] = await executing(server, name)
        assert (await agents[name].expect("command"))["attempt"] == 2
    caller = await connect(server)
    for command in wanted:
        caller.send(type="command", **command)
    for name, agent in agents.items():
        agent.send(type="command_result", commandId=name, status="success", data=f"of {name}")
    assert await outcomes(caller, len(agents)) == {name: f"of {name}" for name in agents}
    assert dead not in {await node_of(server, name) for name in agents}
    assert "Traceback" not in server.output


@pytest_twisted.ensureDeferred
async def test_workers_do_not_outlive_a_parent_that_is_killed(server: NexusServer) -> None:
    pids = await serving(server)
    client = await connect(server)
    server.signal(signal.SIGKILL)
    await server.ended()
    assert await client.closed() == (1000, "Server shutting down")
    await until(lambda: not any(map(alive, pids)))
