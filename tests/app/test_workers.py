"""Workers: several processes on one port, with a real Redis between them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater

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


@pytest_twisted.ensureDeferred
async def test_workers_do_not_outlive_a_parent_that_is_killed(server: NexusServer) -> None:
    pids = await serving(server)
    client = await connect(server)
    server.signal(signal.SIGKILL)
    await server.ended()
    assert await client.closed() == (1000, "Server shutting down")
    await until(lambda: not any(map(alive, pids)))
