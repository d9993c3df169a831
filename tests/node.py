"""A whole node inside the test's process: a `Server` on a random port with real sockets, and its clients."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest_twisted
from msgspec.structs import replace
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import deferLater

from nexus_tw import auth
from nexus_tw.app.server import Server
from nexus_tw.auth import Authenticators
from nexus_tw.bus import open_bus
from nexus_tw.bus.memory import MemoryBus
from nexus_tw.commands.threads import Threads
from nexus_tw.interfaces.plugins import Handler, IBus, IStore
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import DEFAULT_REALM, Auth, Key, Limits, Presence, Role, Settings
from nexus_tw.store.sqlite.store import SqliteStore
from tests.client import EVENTS, PATIENCE, Client, Response, Wire, dial, greeted, handshake, request

TOKEN = "the-admin-token-of-the-tests"

clock: Any = reactor


async def until(true: Callable[[], object]) -> None:
    """Wait until `true()` returns True, at most `PATIENCE`."""
    end = clock.seconds() + PATIENCE
    while not true():
        assert clock.seconds() < end, "waited in vain"
        await deferLater(clock, 0.005)


async def turns(count: int = 3) -> None:
    """Let the reactor run so many turns."""
    for _ in range(count):
        await deferLater(clock, 0)


class Node:
    """A running node with its clients."""

    def __init__(self, server: Server, metrics: Metrics) -> None:
        self.server = server
        self.metrics = metrics
        self.wires: list[Wire] = []
        self._ports: list[Any] = []

    async def listen(self, endpoint: IStreamServerEndpoint) -> Any:
        port: Any = await endpoint.listen(self.server.doors)
        self._ports.append(port)
        return port

    @property
    def port(self) -> int:
        return int(self._ports[0].getHost().port)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}{EVENTS}"

    @property
    def here(self) -> IStreamClientEndpoint:
        return TCP4ClientEndpoint(clock, "127.0.0.1", self.port)

    async def wire(self, data: bytes = b"", endpoint: IStreamClientEndpoint | None = None) -> Wire:
        """Return a new connection on which these bytes have been sent."""
        wire = await dial(endpoint or self.here)
        self.wires.append(wire)
        wire.write(data)
        return wire

    async def client(
        self, token: str | None = TOKEN, endpoint: IStreamClientEndpoint | None = None, **words: Any
    ) -> Client:
        """Return a client that has received `connected`; `words` as for `handshake`."""
        return await greeted(await self.wire(handshake(token=token, **words), endpoint))

    async def refusal(self, **words: Any) -> Response:
        """Return the response to an opening handshake that is refused, after which the connection is closed."""
        wire = await self.wire(handshake(**words))
        response = await wire.response()
        assert response.status != 101
        assert await wire.rest() == b""
        return response

    async def http(
        self,
        method: str,
        target: str,
        token: str | None = TOKEN,
        body: bytes | None = None,
        headers: Iterable[str] = (),
    ) -> Response:
        """Return the response to one request on a connection of its own."""
        wire = await self.wire(request(method, target, token, body, ("Connection: close", *headers)))
        response = await wire.response(method)
        assert await wire.rest() == b""
        return response

    async def connected(self, number: int) -> None:
        """Wait until the server has this many clients."""
        await until(lambda: len(self.server.connections) == number)

    def transports(self) -> list[Any]:
        """Return the server's ends of its open WebSocket connections."""
        connections: list[Any] = list(self.server.connections)
        return [connection.transport for connection in connections]

    def lose(self, bus: MemoryBus) -> None:
        """Make the bus of the realm `nexus` unreachable, like a network failure."""
        bus.available = False
        self.server.realms[DEFAULT_REALM].listener.lost()

    def restore(self, bus: MemoryBus) -> None:
        """Make the bus reachable again."""
        bus.available = True
        self.server.realms[DEFAULT_REALM].listener.restored()

    def left(self) -> dict[str, Any]:
        """Return the entries about clients in the node's tables, by table; without empty tables."""
        server: Any = self.server
        connections = server.connections
        tables: dict[str, list[Any]] = {
            "pulse": [connection for slot in server._pulse._slots.values() for connection in slot],
            "connections": [connections._open, connections._by_address, connections._by_subject],
        }
        for name, realm in server.realms.items():
            subscriptions, presence = realm._subscriptions, realm._presence
            hub = subscriptions._hub
            executors, invocations = realm._registry, realm._invocations
            patterns = [hub._buckets._trie._root.children, hub._buckets._trie._root.tails]
            registrations = executors._registrations
            procedures = [registrations._trie._root.children, registrations._trie._root.tails]
            tables |= {
                f"{name}: hub": [list(hub._buckets), hub._cohorts, hub._dirty, *patterns],
                f"{name}: subscriptions": [subscriptions._clients, subscriptions._interests, subscriptions.lines._lines],
                f"{name}: cursors": [
                    list(realm._cursors),
                    realm._cursors.filler._stalled,
                    realm._cursors.unplaced,
                    list(realm._cursors._recorders._index),
                ],
                f"{name}: presence": [presence._ids, presence._peers, presence._registered],
                f"{name}: executors": [
                    list(registrations),
                    executors._agents,
                    executors._peers,
                    *procedures,
                ],
                f"{name}: invocations": [invocations._hands, invocations._named],
                f"{name}: waiters": [realm._commands._book._awaited],
                f"{name}: sessions": [realm._roster._peers, realm._testaments._testaments],
            }
        return {name: [table for table in held if table] for name, held in tables.items() if any(held)}

    async def stop(self) -> None:
        """Stop everything, and check that the node's tables have no entries about clients left."""
        for port in self._ports:
            await port.stopListening()
        for wire in self.wires:
            wire.drop()
        await until(lambda: all(wire.over for wire in self.wires))
        await self.connected(0)
        # The end of a plain HTTP connection arrives on its own.
        await until(lambda: not self.server.connections.visits)
        realms: list[Any] = list(self.server.realms.values())
        await until(lambda: not any(len(realm._spread) for realm in realms))
        left = self.left()
        await self.server.drain()
        await self.server.stop()
        assert not left, left


class Nodes:
    """Makes nodes for one test, and stops them all after it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._nodes: list[Node] = []

    async def __call__(
        self,
        settings: Settings | None = None,
        *,
        token: str | None = TOKEN,
        bus: IBus | None = None,
        store: IStore | None = None,
        authenticators: Authenticators | None = None,
        commands: Mapping[str, Handler] | None = None,
        descriptors: int = 1000,
        grace: float = 0.0,
    ) -> Node:
        settings = replace(settings or Settings(), presence=Presence(grace))
        number = len(self._nodes)
        metrics = Metrics()
        buses: dict[str, IBus] = {
            realm: open_bus("memory:", clock, metrics, f"node-{number}", realm, settings.history) for realm in settings.realms
        }
        if bus is not None:
            buses[DEFAULT_REALM] = bus
        server = Server(
            clock,
            settings,
            buses,
            store or SqliteStore(str(self.directory / f"node-{number}.db"), clock),
            authenticators or auth.build(settings, token, clock),
            commands or {},
            metrics,
            descriptors,
            Threads(clock, settings.limits, metrics),
        )
        await server.start()
        node = Node(server, metrics)
        self._nodes.append(node)
        await node.listen(TCP4ServerEndpoint(clock, 0, interface="127.0.0.1"))
        return node

    async def stop(self) -> None:
        troubles = []
        for node in self._nodes:
            try:
                await node.stop()
            except AssertionError as trouble:
                troubles.append(trouble)
        assert not troubles, troubles


@pytest_twisted.async_yield_fixture
async def nodes(tmp_path: Path) -> Any:
    """Provide a factory of nodes: `await nodes(Settings(…))`."""
    made = Nodes(tmp_path)
    yield made
    await made.stop()


def limited(**limits: Any) -> Settings:
    """Return settings with these limits."""
    return Settings(limits=Limits(**limits))


def with_roles(**roles: Role) -> Settings:
    """Return settings with these roles, and for each the token `NAME-token` with the subject `NAME`."""
    keys = tuple(
        Key(name, name, f"sha256:{sha256(f'{name}-token'.encode()).hexdigest()}") for name in roles
    )
    return Settings(roles=roles, auth=Auth(keys=keys))


def small_buffers(wire: Wire, transport: Any) -> None:
    """Set small socket buffers on the server's and the client's side, so that a slow reader is detected soon."""
    transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    wire.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
