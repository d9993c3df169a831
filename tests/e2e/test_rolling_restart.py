"""A node behind a shipped front ends and comes back, then the other one: every WebSocket client finds a node at its first
attempt, and the front's own log says why one was passed over.

There is no traffic but WebSockets, whose requests do not end: nothing that a front counts at the end of a request helps.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from nexus_client.twisted import Nexus
from twisted.internet.threads import deferToThread

from tests.e2e.agent import connect
from tests.e2e.cable import Cable
from tests.e2e.clients import Clients
from tests.e2e.front import Front
from tests.e2e.haproxy import HAProxy
from tests.e2e.nginx import Nginx
from tests.e2e.returning import Returning
from tests.e2e.server import NexusServer, free_port, until

TOKEN = "Rr7-a-token-that-is-easy-to-find"
CLIENTS = 21
FLEET = 6  # further ones, with our own client
FRONTS: dict[str, Any] = {"nginx": Nginx, "haproxy": HAProxy}
# In the words of each front: a node that refuses connections, and one that does not answer.
REFUSED = {"nginx": "connect() failed (111: Connection refused)", "haproxy": "Layer4 connection problem"}
SILENT = {"nginx": "upstream timed out (110: Connection timed out) while connecting to upstream", "haproxy": "Layer4 timeout"}


@dataclass
class House:
    """Two nodes that know nothing of each other, a front before them, and the clients that come through it."""

    kind: str
    nodes: list[NexusServer]
    front: Any
    clients: Returning

    async def fill(self, size: int) -> None:
        self.clients.add(size)
        await self.clients.complete()

    async def passed_over(self, node: int) -> None:
        """Wait until the proxy has noticed that this node is gone, if it needs to."""
        if self.kind == "haproxy":
            await until(lambda: self.state(node) == "DOWN", what=self.front.output)

    async def seen(self, node: int) -> None:
        """Wait until the proxy sends clients to this node again, if it checks."""
        if self.kind == "haproxy":
            await until(lambda: self.state(node) == "UP", what=self.front.output)

    def state(self, node: int) -> str:
        """Return HAProxy's last report about a server."""
        name = f"Server ready/{('one', 'two')[node]} is "
        lines = [line for line in self.front.output.splitlines() if name in line]
        return lines[-1].partition(name)[2].split()[0].rstrip(".,") if lines else "UP"


class Houses:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._discard: list[Callable[[], None]] = []
        self._clients: list[Returning] = []

    async def build(self, kind: str, through: Callable[[int], int] = lambda port: port, **env: str) -> House:
        """`through` gives the port by which the front reaches that of a node; `env` is the nodes' own."""
        env = {"NEXUS_DRAIN": "1", **env}
        nodes = [NexusServer(self._directory, name=name, token=TOKEN, env=env) for name in ("one", "two")]
        for node in nodes:
            self._discard.append(node.discard)
            node.launch()
        for node in nodes:
            await node.ready()
        front = FRONTS[kind](self._directory, [through(node.port) for node in nodes])
        self._discard.append(front.discard)
        await front.start()
        clients = Returning(front.wss, front.authority, TOKEN)
        self._clients.append(clients)
        return House(kind, nodes, front, clients)

    def cable(self, port: int) -> Cable:
        cable = Cable(port)
        self._discard.append(cable.discard)
        return cable

    async def clear(self) -> None:
        for clients in self._clients:
            await clients.leave()
        for discard in reversed(self._discard):
            discard()


@pytest_twisted.async_yield_fixture
async def houses(tmp_path: Path) -> Any:
    made = Houses(tmp_path)
    yield made
    await made.clear()


def test_haproxy_accepts_the_shipped_file_without_a_warning(tmp_path: Path) -> None:
    outcome = HAProxy(tmp_path, [3000, 3001]).test()
    assert outcome.returncode == 0, outcome.stderr
    assert "WARNING" not in outcome.stderr


@pytest.mark.parametrize("kind", FRONTS)
@pytest_twisted.ensureDeferred
async def test_a_rolling_restart_behind_a_shipped_front_locks_nobody_out(houses: Any, kind: str, clients: Clients) -> None:
    house = await houses.build(kind)
    await house.fill(CLIENTS)
    front = Front(house.front, house.nodes, TOKEN)
    fleet = [await front.client(clients) for _ in range(FLEET)]
    for number, node in enumerate(house.nodes):
        # Clients wait as long as they are asked to (`delay` of `disconnect`): here until the node is gone.
        house.clients.hold()
        await node.stop()
        house.clients.release()
        for client in fleet:
            client.woke()  # or it would return anywhere within the time that it was asked to wait
        await house.clients.complete()
        await until(lambda: _connected(fleet))
        await house.passed_over(number)
        await node.start()
        await house.seen(number)
    assert house.clients.refusals == []
    assert set(house.clients.ends) == {(1000, "Server shutting down")}, "the front cuts nobody off"
    # All have left the second node, and some the first.
    await until(lambda: _connections(fleet) > 2 * FLEET and _connected(fleet))
    assert all(client.stats.attempts == client.stats.connections for client in fleet)
    assert REFUSED[kind] in house.front.explained
    assert TOKEN not in house.front.explained


@pytest.mark.parametrize("kind", FRONTS)
@pytest_twisted.ensureDeferred
async def test_nodes_whose_process_is_gone_one_after_the_other_lock_nobody_out(
    houses: Any, kind: str, clients: Clients
) -> None:
    house = await houses.build(kind)
    front = Front(house.front, house.nodes, TOKEN)
    fleet = [await front.client(clients) for _ in range(CLIENTS)]
    for number, node in enumerate(house.nodes):
        before = _connections(fleet)
        await node.kill()
        await until(lambda before=before: _connections(fleet) > before and _connected(fleet), 30)
        await house.passed_over(number)
        await node.start()
        await house.seen(number)
    # All have lost the second node, and some the first.
    await until(lambda: _connections(fleet) > 2 * CLIENTS and _connected(fleet))
    assert all(client.stats.attempts == client.stats.connections for client in fleet)
    assert REFUSED[kind] in house.front.explained


@pytest.mark.parametrize("kind", FRONTS)
@pytest_twisted.ensureDeferred
async def test_nodes_whose_machine_is_gone_without_a_reset_lock_nobody_out(houses: Any, kind: str) -> None:
    cables: list[Cable] = []

    def through(port: int) -> int:
        cables.append(houses.cable(port))
        return cables[-1].port

    house = await houses.build(kind, through)
    await house.fill(6)
    for number, node in enumerate(house.nodes):
        affected = await _clients_of(house, node)
        assert affected, "the front has sent nobody to this node"
        cables[number].cut()
        if kind == "nginx":
            # As their own heartbeat would tell them after a minute: nginx does not know.
            for agent in affected:
                agent.transport.abortConnection()
        await until(lambda ended=affected: all(agent.over for agent in ended), what=house.front.explained)
        await house.clients.complete()
        cables[number].repair()
        await house.seen(number)
    assert house.clients.refusals == []
    assert SILENT[kind] in house.front.explained


@pytest_twisted.ensureDeferred
async def test_haproxy_lets_clients_through_while_no_node_is_ready(houses: Any, clients: Clients) -> None:
    house = await houses.build("haproxy", NEXUS_BUS="redis://127.0.0.1:1/0")
    await until(lambda: house.state(0) == house.state(1) == "stopping", what=house.front.output)
    front = Front(house.front, house.nodes, TOKEN)
    assert [(await front.client(clients)).stats.attempts for _ in range(2)] == [1, 1]
    assert " to alive/" in house.front.output


@pytest_twisted.ensureDeferred
async def test_haproxy_passes_on_what_nexus_needs_and_keeps_tokens_out_of_its_log(houses: Any) -> None:
    house = await houses.build("haproxy")
    front = Front(house.front, house.nodes, TOKEN)
    agent = await front.agent(address="127.0.0.3", headers={"X-Forwarded-For": "192.0.2.66"}, origin=house.front.https)
    await until(lambda: "GET /api/v1/events 101" in house.front.output, what="for the log, while the WebSocket is open")
    await agent.leave()
    await until(lambda: any("127.0.0.3" in node.output for node in house.nodes), what="for the client's address in Nexus' log")
    assert not any("192.0.2.66" in node.output for node in house.nodes)
    assert (await front.ask("POST", "/api/v1/events", {"eventType": "task.updated", "data": {}})).status == 200
    assert (await front.ask("GET", "/health/live", **{"X-Long": "x" * 14000})).status == 200
    assert (await front.ask("GET", "/metrics")).status == 200
    for path in ("/metrics", "//metrics", "/%6detrics"):
        assert (await front.ask("GET", path, address="127.0.0.2")).status == 403
    assert TOKEN not in house.front.output


@pytest_twisted.ensureDeferred
async def test_haproxy_answers_429_to_an_address_with_too_many_connections(tmp_path: Path) -> None:
    front = HAProxy(tmp_path, [free_port(), free_port()])
    idle: list[http.client.HTTPConnection] = []
    try:
        await front.start()
        for _ in range(256):
            idle.append(http.client.HTTPConnection("127.0.0.1", front.http_port, timeout=10))
            # An answer shows that this one is accepted and counted, by whichever thread of HAProxy.
            assert await deferToThread(_asked, idle[-1]) == 308
            assert idle[-1].sock is not None, "kept alive"
        assert await deferToThread(_status, front.http_port) == 429
        assert await deferToThread(_status, front.http_port, "127.0.0.2") == 308, "each address for itself"
    finally:
        for each in idle:
            each.close()
        front.discard()


def _status(port: int, address: str = "127.0.0.1") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(address, 0))
    status = _asked(connection)
    connection.close()
    return status


def _asked(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    return response.status


def _connected(fleet: list[Nexus]) -> bool:
    return all(client.state == "connected" for client in fleet)


def _connections(fleet: list[Nexus]) -> int:
    """How many connections they have had."""
    return sum(client.stats.connections for client in fleet)


async def _clients_of(house: House, node: NexusServer) -> Sequence[Any]:
    """The clients that are connected to this node: those who get its event."""
    clients = list(house.clients.here)
    for agent in clients:
        agent.tell(type="subscribe", events=["which.node"])
        await agent.next("subscribed")
    for each in house.nodes:
        direct = await connect(each.ws, each.token)
        direct.tell(type="publish", eventType="which.node", data=each.port)
        await direct.next("published")
        await direct.leave()
    return [agent for agent in clients if (await agent.next("event"))["data"] == node.port]
