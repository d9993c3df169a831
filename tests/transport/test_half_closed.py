"""A client that has sent its request and ends its half of the connection gets its answer, whatever the connection is."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint, wrapServerTLS
from zope.interface import implementer

from nexus_tw.auth import Authenticators
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.policy import ADMIN, Principal
from nexus_tw.model.settings import Tls
from nexus_tw.transport.listening.tls import Certificates
from tests.certificates import authority, issue
from tests.client import handshake, request
from tests.node import TOKEN, Nodes, clock, until

READY = request("GET", "/health/ready", None)
EVENT = b'{"eventType": "a.b", "data": 1}'
PUBLISH = request("POST", "/api/v1/events", TOKEN, EVENT)
NOWHERE = handshake("/nowhere")
REFUSED = handshake(headers=["Origin: http://other.example"])


@implementer(IAuthenticator)
class Slow:
    """An authenticator that answers after the client's end has been seen for sure."""

    def authenticate(self, credentials: Credentials) -> Deferred[Principal]:
        answer: Deferred[Principal] = Deferred()
        clock.callLater(0.2, answer.callback, Principal("slow", "admin", ADMIN))
        return answer


class Clients:
    """`nc -N` and `socat`, which end their half when their input is at its end; each of them over one kind of endpoint."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._running: list[subprocess.Popen[bytes]] = []

    async def __call__(self, way: str, sent: bytes, slow: bool) -> bytes:
        """All that comes back."""
        node = await self._nodes(authenticators=Authenticators([Slow()]) if slow else None)
        command = await getattr(self, f"_{way}")(node)
        directory = self._nodes.directory
        (directory / "sent").write_bytes(sent)
        with (directory / "sent").open("rb") as source, (directory / "received").open("wb") as target:
            client = subprocess.Popen(command, stdin=source, stdout=target)
        self._running.append(client)
        await until(lambda: client.poll() is not None)
        return (directory / "received").read_bytes()

    async def _tcp(self, node: Any) -> Sequence[str]:
        return ["nc", "-N", "127.0.0.1", str(node.port)]

    async def _unix(self, node: Any) -> Sequence[str]:
        path = self._nodes.directory / "nexus.sock"
        await node.listen(UNIXServerEndpoint(clock, str(path)))
        return ["nc", "-N", "-U", str(path)]

    async def _tls(self, node: Any) -> Sequence[str]:
        directory: Path = self._nodes.directory
        (directory / "authority.pem").write_bytes(authority().certificate_pem())
        certificate, key = issue().write(directory, "server")
        plain = TCP4ServerEndpoint(clock, 0, interface="127.0.0.1")
        port = await node.listen(wrapServerTLS(Certificates(Tls(certificate=certificate, key=key), clock), plain, clock))
        trust = f"cafile={directory / 'authority.pem'},commonname=localhost"
        return ["socat", "-t5", "-", f"OPENSSL:127.0.0.1:{port.getHost().port},{trust}"]

    def close(self) -> None:
        for client in self._running:
            client.kill()
            client.wait()


@pytest.fixture
def clients(nodes: Nodes) -> Iterator[Clients]:
    made = Clients(nodes)
    yield made
    made.close()


@pytest.mark.parametrize("way", ["tcp", "unix", "tls"])
@pytest.mark.parametrize(
    ("sent", "slow", "statuses"),
    [
        (READY, False, [200]),
        (PUBLISH, True, [200]),
        (READY + PUBLISH + READY, True, [200, 200, 200]),
        (NOWHERE, False, [404]),
        (REFUSED, False, [403]),
        (READY + NOWHERE, False, [200, 404]),
        (b"GET /health/ready HTTP/1.1\r\n\r\n", False, [400]),
        (READY + PUBLISH[:-1], False, [200]),
        (READY[:-1], False, []),
    ],
    ids=["get", "slow-post", "pipelined", "upgrade", "origin", "late-upgrade", "no-host", "half-a-body", "half-a-head"],
)
@pytest_twisted.ensureDeferred
async def test_a_half_closed_request_gets_its_answer_and_the_connection_ends(
    clients: Clients, way: str, sent: bytes, slow: bool, statuses: list[int]
) -> None:
    received = await clients(way, sent, slow)
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)] == statuses
