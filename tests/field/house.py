"""A house: one `twistd nexus` that is reachable in several ways at once, the programs in front of it, and its witness."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, connectWS
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.python.failure import Failure

from tests.certificates import authority, issue
from tests.e2e.haproxy import HAProxy
from tests.e2e.nginx import Nginx
from tests.e2e.server import ROOT, NexusServer, clock, free_port, until
from tests.field.programs.cells import SAID
from tests.field.ways import Way

FRONTS: Final[Mapping[str, Any]] = {"nginx": Nginx, "haproxy": HAProxy}
ACTIVATE: Final = Path(__file__).parent / "activate.py"
PATIENCE: Final = 60.0  # s for anything that is going to happen, on a busy machine


@dataclass(frozen=True)
class Address:
    """The address of a way, for a client."""

    host: str = ""
    port: int = 0
    unix: str = ""


class _Server(NexusServer):
    """A server with a listening socket that another process holds, even while the server is down."""

    def __init__(self, directory: Path, handed: socket.socket, *args: str, env: Mapping[str, str]) -> None:
        super().__init__(directory, *args, env=env)
        self.descriptors = [handed.fileno()]

    def spawn(self, command: list[str], env: Mapping[str, str], cwd: Path) -> None:
        super().spawn([sys.executable, "-S", str(ACTIVATE), *map(str, self.descriptors), *command], env, cwd)


class _Relayed(ProxyServer):
    """A connection that passes through a relay."""

    factory: Any
    transport: Any
    peer: Any

    def connectionMade(self) -> None:
        self.factory.passing.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.passing.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def reset(self) -> None:
        """Send RST to both sides."""
        self.transport.abortConnection()
        if self.peer is not None:
            self.peer.transport.abortConnection()


class Relay(ProxyFactory):
    """A part of the network in front of an address, which can fail."""

    protocol = _Relayed
    noisy = False

    def __init__(self, to: Address) -> None:
        super().__init__(to.host, to.port)
        interface = "::1" if ":" in to.host else "127.0.0.1"
        self.passing: set[_Relayed] = set()
        self._port = clock.listenTCP(0, self, interface=interface)
        self.address = Address(to.host, self._port.getHost().port)

    def reset(self) -> None:
        """Send RST to both sides of all connections."""
        for each in list(self.passing):
            each.reset()

    def stop(self) -> None:
        self._port.stopListening()
        self.reset()


class Witness(WebSocketClientProtocol):
    """The test's own client: publishes news, receives events of the others, and has them execute a command."""

    def __init__(self) -> None:
        super().__init__()
        self.pings = 0
        self.said: set[str] = set()  # cells whose publication came
        self.results: dict[str, Any] = {}  # of commands, by cell
        self._published = 0
        self.subscribed = False

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        match message["type"]:
            case "connected":
                self._tell(type="subscribe", events=[SAID])
            case "subscribed":
                self.subscribed = True
            case "ping":
                self.pings += 1
            case "published":
                self._published += 1
            case "event":
                self.said.add(message["data"]["cell"])
            case "command_result":
                self.results[message["id"]] = message["data"]["result"]
            case "error" if "id" in message:
                self.results[message["id"]] = message["message"]

    async def publish(self, event_type: str, data: Any) -> None:
        """Publish an event; fail if it is refused."""
        wanted = self._published + 1
        self._tell(type="publish", eventType=event_type, data=data)
        await until(lambda: self._published == wanted, PATIENCE, f"for {event_type} to be published")

    def command(self, name: str, cell: str, **parameters: Any) -> None:
        self._tell(type="command", command=name, parameters=parameters, id=cell)

    def _tell(self, **message: Any) -> None:
        self.sendMessage(json.dumps(message).encode())

    def onOpen(self) -> None:
        self.factory.opened.callback(self)


class House:
    """The server with its ways, started and stopped as a whole."""

    def __init__(self, directory: Path, ways: Iterable[Way], settings: Mapping[str, str], relayed: bool) -> None:
        self.directory = directory
        self.pages = free_port()
        self._relayed = relayed
        self.relays: dict[str, Relay] = {}
        self.certificate, key = issue().write(directory, "house")
        self.authority = directory / "authority.pem"
        self.authority.write_bytes(authority().certificate_pem())
        self._handed = socket.create_server(("127.0.0.1", 0))
        self._addresses: dict[str, Address] = {}
        arguments: list[str] = []
        ways = tuple(ways)
        for way in ways:
            if way.name == "systemd":
                address = Address(way.host, self._handed.getsockname()[1])
            elif way.unix:
                address = Address(unix=str(directory / "nexus.socket"))
            else:
                address = Address(way.host, free_port())
            self._addresses[way.name] = address
            if way.listen:
                filled = way.listen.format(
                    port=address.port, unix=address.unix, certificate=self.certificate, key=key
                )
                arguments += ["--listen", filled]
        env = {
            "NEXUS_TLS__CERTIFICATE": self.certificate,
            "NEXUS_TLS__KEY": key,
            "NEXUS_HTTP__ORIGINS": f"http://127.0.0.1:{self.pages}",
            "NEXUS_HTTP__METRICS_OPEN": "true",
            **settings,
        }
        self.server = _Server(directory, self._handed, *arguments, env=env)
        self._fronts: list[Any] = []
        names = {way.name for way in ways}
        for name in FRONTS.keys() & names:
            front = FRONTS[name](directory, [self.server.port, self.server.port])
            self._fronts.append(front)
            self._addresses[name] = Address("localhost", front.port)
        self.witness: Any = None

    def address(self, way: Way) -> Address:
        """Return the address for clients of this way: of the relay in front of it, if there is one."""
        return self.relays[way.name].address if self._relayed else self._addresses[way.name]

    def environment(self) -> dict[str, str]:
        """Return the environment of the clients' programs: trusted certificates, and the address of pages."""
        fronts = [str(front) for front in (self.directory / "front.pem", self.directory / "front.both.pem") if front.exists()]
        return os.environ | {
            "PYTHONPATH": str(ROOT),
            "SSL_CERT_FILE": str(self.authority),
            "CURL_CA_BUNDLE": str(self.authority),
            "NODE_EXTRA_CA_CERTS": str(self.authority),
            "TMPDIR": str(self.directory),
            "FIELD_PAGES": str(self.pages),
            "FIELD_CERTIFICATES": ":".join([self.certificate, *fronts]),
        }

    async def start(self) -> None:
        await self.open()
        for front in self._fronts:
            await front.start()
        if self._relayed:
            self.relays = {name: Relay(to) for name, to in self._addresses.items() if not to.unix}

    async def open(self) -> None:
        """Start only the server."""
        self.server.launch()
        await self.server.ready(PATIENCE)
        factory = WebSocketClientFactory(f"{self.server.ws}?token={self.server.token}")
        factory.protocol = Witness
        factory.noisy = False
        factory.opened = Deferred()
        connectWS(factory)
        self.witness = await factory.opened.addTimeout(PATIENCE, clock)
        await until(lambda: self.witness.subscribed, PATIENCE, "for the witness")

    async def heartbeats(self, number: int) -> None:
        """Wait until the witness has received this many pings."""
        wanted = self.witness.pings + number
        await until(lambda: self.witness.pings >= wanted, PATIENCE, f"for {number} heartbeats")

    def discard(self) -> None:
        for relay in self.relays.values():
            relay.stop()
        for child in (*self._fronts, self.server):
            child.discard()
        self._handed.close()
