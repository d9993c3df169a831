"""The door, over real sockets: what it lets through, to whom, and what it ends."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    wrapClientTLS,
    wrapServerTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate as TrustedCertificate
from twisted.internet.ssl import PrivateCertificate, optionsForClientTLS
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from nexus_tw.auth import Authenticators
from nexus_tw.interfaces.plugins import Credentials
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Auth, Certificate, Limits, Role, Settings, Tls
from nexus_tw.transport.door import Doors
from nexus_tw.transport.listening.tls import Certificates
from nexus_tw.transport.rawsocket import HandshakeError, Unacceptable
from tests.certificates import Issued, authority, issue
from tests.client import PING, TEXT, Client, frame, greeted, handshake, request
from tests.node import TOKEN, Node, Nodes, clock, limited, turns, until


def host_of(node: Node) -> str:
    """The address of the one client, as the server knows it."""
    (connection,) = node.server.connections
    return connection.address


# --- what a client may send in pieces, or in one


@pytest_twisted.ensureDeferred
async def test_a_handshake_may_come_byte_by_byte(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire()
    for byte in handshake(token=TOKEN):
        wire.write(bytes([byte]))
        await turns(1)
    await greeted(wire)


@pytest_twisted.ensureDeferred
async def test_frames_right_behind_the_handshake_are_taken(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(handshake(token=TOKEN) + frame(TEXT, b'{"type":"ping","id":1}') + frame(PING, b"now"))
    client = await greeted(wire)
    assert (await client.expect("pong"))["id"] == 1
    assert await client.heard() == []
    assert client.pongs == [b"now"]


@pytest_twisted.ensureDeferred
async def test_frames_behind_the_handshake_wait_for_a_slow_authenticator(nodes: Nodes) -> None:
    node = await nodes(authenticators=slow(0.05))
    wire = await node.wire(handshake(token=TOKEN) + frame(TEXT, b'{"type":"ping","id":1}'))
    await turns()
    wire.write(frame(TEXT, b'{"type":"ping","id":2}'))
    client = await greeted(wire)
    assert [(await client.expect("pong"))["id"] for _ in range(2)] == [1, 2]


@pytest_twisted.ensureDeferred
async def test_requests_in_one_packet_are_answered_in_order(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(
        request("GET", "/health/live", None)
        + request("POST", "/api/v1/events", TOKEN, b'{"eventType": "a.b", "data": 1}')
        + request("GET", "/nowhere", None)
        + request("GET", "/health/ready", None)
    )
    assert [(await wire.response()).status for _ in range(4)] == [200, 200, 404, 200]


@pytest_twisted.ensureDeferred
async def test_a_connection_that_served_requests_can_still_be_upgraded(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(request("GET", "/health/live", None))
    assert (await wire.response()).status == 200
    wire.write(handshake(token=TOKEN))
    client = await greeted(wire)
    assert await client.heard() == []
    assert len(node.server.connections) == 1


@pytest_twisted.ensureDeferred
async def test_an_upgrade_and_its_frames_may_stand_behind_a_request_in_one_packet(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(
        request("GET", "/health/live", None) + handshake(token=TOKEN) + frame(TEXT, b'{"type":"ping","id":7}')
    )
    assert (await wire.response()).status == 200
    client = await greeted(wire)
    assert (await client.expect("pong"))["id"] == 7


@pytest_twisted.ensureDeferred
async def test_a_later_upgrade_is_judged_like_a_first_one(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(request("GET", "/health/live", None) + handshake("/nowhere", token=TOKEN))
    assert [(await wire.response()).status for _ in range(2)] == [200, 404]
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("first", [b"", request("GET", "/health/live", None)])
@pytest.mark.parametrize("value", ["notwebsocket", "websocket2", "h2c"])
async def test_an_upgrade_to_something_else_is_a_plain_request(nodes: Nodes, first: bytes, value: str) -> None:
    node = await nodes()
    wire = await node.wire(first + handshake(token=TOKEN, headers=[f"Upgrade: {value}"], drop=["Upgrade"]))
    if first:
        assert (await wire.response()).status == 200
    assert (await wire.response()).status == 426


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("first", [b"", request("GET", "/health/live", None)])
async def test_http_1_0_cannot_be_upgraded(nodes: Nodes, first: bytes) -> None:
    node = await nodes()
    wire = await node.wire(first + handshake(token=TOKEN).replace(b" HTTP/1.1", b" HTTP/1.0", 1))
    if first:
        assert (await wire.response()).status == 200
    assert b" 426 " in (await wire.rest()).partition(b"\r\n")[0]


@pytest_twisted.ensureDeferred
async def test_an_address_may_be_written_as_a_whole_url(nodes: Nodes) -> None:
    """RFC 9112 section 3.2.2: a server must accept the absolute form."""
    node = await nodes()
    await node.client(target="http://localhost/api/v1/events")
    assert (await node.http("GET", "http://localhost/health/live", None)).status == 200
    assert (await node.refusal(target="http://localhost", token=TOKEN)).status == 404


# --- what does not pass


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "line",
    [
        b"X-A: 1\nSec-WebSocket-Protocol: smuggled",
        b"X-A: 1\x0bX-B: 2",
        b"X-A: 1\x0cX-B: 2",
        b"X-A: 1\x1cX-B: 2",
        b"X-A: 1\rX-B: 2",
        b"X-A: \x00",
        b"X-A: \x7f",
        b"X-A : 1",
        b" folded",
        b"X-A",
        b": 1",
        "X-ä: 1".encode(),
    ],
)
async def test_a_byte_that_could_smuggle_in_a_header_is_refused(nodes: Nodes, line: bytes) -> None:
    node = await nodes()
    head = handshake(token=TOKEN)[:-2] + line + b"\r\n\r\n"
    wire = await node.wire(head)
    response = await wire.response()
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert await wire.rest() == b""
    assert node.metrics.refusals == {400: 1}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "head",
    [
        b"GET /api/v1/events\r\n\r\n",
        b"GET  /api/v1/events HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /api/v1/events HTTP/2.0\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS on the plain port \r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused(nodes: Nodes, head: bytes) -> None:
    node = await nodes()
    wire = await node.wire(head)
    assert (await wire.response()).status == 400
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_header_block_may_have_limits_headers_bytes_and_not_one_more(nodes: Nodes) -> None:
    node = await nodes(limited(headers=1000))
    for size, status in ((1000, 101), (1001, 431)):
        head = handshake(token=TOKEN, headers=["X-Padding: "])
        head = head.replace(b"X-Padding: ", b"X-Padding: " + b"x" * (size - len(head)))
        assert len(head) == size
        response = await (await node.wire(head)).response()
        assert response.status == status
    assert response.json["code"] == "too_large"
    assert Limits().headers == 16384


@pytest_twisted.ensureDeferred
async def test_a_header_block_without_an_end_is_refused_once_it_is_too_large(nodes: Nodes) -> None:
    node = await nodes(limited(headers=1000))
    wire = await node.wire(b"GET / HTTP/1.1\r\nX-A: " + b"x" * 1000)
    assert (await wire.response()).status == 431
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_on_sending_still_gets_to_read_why_it_was_refused(nodes: Nodes) -> None:
    node = await nodes(limited(headers=1000))
    wire = await node.wire(b"GET / HTTP/1.1\r\nX-A: " + b"x" * 2000)
    for _ in range(20):
        wire.write(b"x" * 50000)
        await turns(2)
    assert (await wire.response()).status == 431


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n"])
async def test_a_client_that_does_not_finish_its_handshake_is_dropped(nodes: Nodes, sent: bytes) -> None:
    node = await nodes(limited(handshake=0.1))
    wire = await node.wire(sent)
    began = clock.seconds()
    assert await wire.rest() == b""
    assert clock.seconds() - began < 2
    assert node.metrics.refusals == {408: 1}
    assert Limits().handshake == 5


@pytest_twisted.ensureDeferred
async def test_a_byte_now_and_then_does_not_keep_a_handshake_alive(nodes: Nodes) -> None:
    node = await nodes(limited(handshake=0.2))
    wire = await node.wire(b"GET / HTTP/1.1\r\n")
    began = clock.seconds()
    while not wire.over and clock.seconds() - began < 5:
        wire.write(b"X")
        await turns(1)
    assert 0.1 < clock.seconds() - began < 2


@pytest_twisted.ensureDeferred
async def test_a_client_that_closes_its_half_before_it_has_said_anything_is_gone(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(b"GET / HT")
    wire.transport.loseWriteConnection()
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_websocket_client_that_closes_its_half_is_gone(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a.b")
    client.wire.transport.loseWriteConnection()
    await node.connected(0)
    assert node.left() == {}


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x7f\x00\0\0"])
def test_a_client_that_was_refused_and_does_not_close_is_dropped(sent: bytes) -> None:
    """As it could under TLS, where both sides close."""
    time = Clock()
    refused: Any = SimpleNamespace(count_refusal=lambda _status: None)
    rawsockets: Any = SimpleNamespace(asked=_unacceptable)
    limits = Limits(headers=1000, handshake=5)
    unused: Any = id
    door: Any = Doors(time, refused, unused, unused, limits, rawsockets, unused).buildProtocol(None)
    transport: Any = StringTransport()
    door.makeConnection(transport)
    door.dataReceived(sent)
    assert transport.value() and transport.disconnecting
    time.advance(4.9)
    assert not transport.disconnected
    time.advance(0.2)
    assert transport.disconnected and not time.getDelayedCalls()


def _unacceptable(_opening: bytes) -> None:
    raise Unacceptable(HandshakeError.SERIALIZER)


# --- authentication that takes its time


class _Slow:
    """An authenticator that answers after so many seconds, or never."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.cancelled = 0

    def authenticate(self, credentials: Credentials) -> Any:
        from twisted.internet.defer import Deferred

        def cancelled(_deferred: object) -> None:
            self.cancelled += 1

        answer: Deferred[Principal] = Deferred(cancelled)
        if self.seconds is not None:
            clock.callLater(self.seconds, answer.callback, Principal("slow", "admin", Role(admin=True)))
        return answer


def slow(seconds: float | None) -> Authenticators:
    return Authenticators([_Slow(seconds)])  # type: ignore[list-item]


@pytest_twisted.ensureDeferred
async def test_an_authenticator_may_take_longer_than_the_handshake(nodes: Nodes) -> None:
    node = await nodes(limited(handshake=0.05, auth=5), authenticators=slow(0.15))
    assert (await node.client()).welcome["user"]["subject"] == "slow"


@pytest_twisted.ensureDeferred
async def test_an_authenticator_that_takes_longer_than_limits_auth_is_not_waited_for(nodes: Nodes) -> None:
    never = _Slow(None)
    node = await nodes(limited(auth=0.1), authenticators=Authenticators([never]))  # type: ignore[list-item]
    wire = await node.wire(handshake(token=TOKEN))
    response = await wire.response()
    assert (response.status, response.json["code"], response.json["retryable"]) == (504, "timeout", True)
    assert await wire.rest() == b""
    assert (await node.http("GET", "/metrics")).status == 504
    assert never.cancelled == 2
    assert Limits().auth == 10


@pytest_twisted.ensureDeferred
async def test_a_client_that_leaves_while_it_is_authenticated_leaves_nothing(nodes: Nodes) -> None:
    node = await nodes(authenticators=slow(0.1))
    wire = await node.wire(handshake(token=TOKEN))
    await turns()
    wire.drop()
    await until(lambda: wire.over)
    other = await node.client()
    assert len(node.server.connections) == 1
    await other.heard()


# --- other sockets


@pytest_twisted.ensureDeferred
async def test_a_unix_socket_serves_websockets_and_http(nodes: Nodes, tmp_path: Path) -> None:
    node = await nodes()
    path = str(tmp_path / "nexus.socket")
    await node.listen(UNIXServerEndpoint(clock, path))
    here = UNIXClientEndpoint(clock, path)
    client = await node.client(endpoint=here)
    assert host_of(node) == "unix"
    await client.subscribe("a.b")
    assert (await client.ask(type="publish", eventType="a.b", data=1))["type"] == "published"
    await client.expect("event", data=1)
    wire = await node.wire(request("GET", "/health/live", None), here)
    assert (await wire.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_proxy_on_a_unix_socket_is_believed_about_addresses(nodes: Nodes, tmp_path: Path) -> None:
    node = await nodes()
    path = str(tmp_path / "nexus.socket")
    await node.listen(UNIXServerEndpoint(clock, path))
    await node.client(endpoint=UNIXClientEndpoint(clock, path), headers=["X-Forwarded-For: 192.0.2.7"])
    assert host_of(node) == "192.0.2.7"


class Secured:
    """A node's TLS port, and clients of it."""

    def __init__(self, node: Node, port: Any) -> None:
        self.node = node
        self._number = port.getHost().port

    def endpoint(self, client: Issued | None = None) -> IStreamClientEndpoint:
        from twisted.internet.endpoints import TCP4ClientEndpoint

        trust = TrustedCertificate.loadPEM(authority().certificate_pem())
        own = PrivateCertificate.loadPEM(client.key_pem() + client.certificate_pem()) if client else None
        options = optionsForClientTLS("localhost", trustRoot=trust, clientCertificate=own)
        return wrapClientTLS(options, TCP4ClientEndpoint(clock, "127.0.0.1", self._number))

    async def client(self, certificate: Issued | None = None, **words: Any) -> Client:
        return await self.node.client(endpoint=self.endpoint(certificate), **words)


async def secured(nodes: Nodes, **settings: Any) -> Secured:
    (nodes.directory / "authority.pem").write_bytes(authority().certificate_pem())
    certificate, key = issue().write(nodes.directory, "server")
    tls = Tls(certificate=certificate, key=key, client_ca=str(nodes.directory / "authority.pem"))
    node = await nodes(Settings(**settings))
    plain = TCP4ServerEndpoint(clock, 0, interface="127.0.0.1")
    return Secured(node, await node.listen(wrapServerTLS(Certificates(tls, clock), plain, clock)))


@pytest_twisted.ensureDeferred
async def test_tls_serves_websockets_and_http(nodes: Nodes) -> None:
    served = await secured(nodes)
    client = await served.client()
    await client.subscribe("a.b")
    big = "x" * 60000
    assert (await client.ask(type="publish", eventType="a.b", data=big))["type"] == "published"
    await client.expect("event", data=big)
    wire = await served.node.wire(request("GET", "/health/live", None), served.endpoint())
    assert (await wire.response()).status == 200
    wire.write(handshake(token=TOKEN) + frame(TEXT, b'{"type":"ping","id":1}'))
    assert (await (await greeted(wire)).expect("pong"))["id"] == 1


# Twisted's own client hands its certificate on in the old form.
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_a_client_certificate_says_who_somebody_is(nodes: Nodes) -> None:
    served = await secured(
        nodes,
        roles={"agent": Role(publish=("a.*",))},
        auth=Auth(certificates=(Certificate("agent-7", "the-seventh", "agent"),)),
    )
    client = await served.client(issue("agent-7"), token=None)
    assert client.welcome["user"] == {"subject": "the-seventh", "role": "agent"}
    body = b'{"eventType": "a.b", "data": 1}'
    wire = await served.node.wire(request("POST", "/api/v1/events", None, body), served.endpoint(issue("agent-7")))
    assert (await wire.response()).status == 200
    # A token beside the certificate wins, also a wrong one.
    assert (await served.client(issue("agent-7"), token=TOKEN)).welcome["user"]["subject"] == "admin"
    for certificate, token in ((issue("agent-8"), None), (None, None), (issue("agent-7"), "wrong")):
        wire = await served.node.wire(handshake(token=token), served.endpoint(certificate))
        stranger = Client(wire, await wire.response())
        assert await stranger.closed() == (1008, "Unauthorized")


@pytest_twisted.ensureDeferred
async def test_a_refusal_comes_through_tls_too(nodes: Nodes) -> None:
    served = await secured(nodes, limits=Limits(headers=1000))
    wire = await served.node.wire(b"GET / HTTP/1.1\r\nX-A: " + b"x" * 5000, served.endpoint())
    wire.write(b"x" * 100)
    assert (await wire.response()).status == 431
    await wire.rest()
    assert served.node.metrics.refusals == {431: 1}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("upgraded", [False, True])
async def test_small_writes_are_not_held_back(nodes: Nodes, upgraded: bool) -> None:
    node = await nodes()
    if upgraded:
        wire = await node.wire(request("GET", "/health/live", None))
        await wire.response()
        wire.write(handshake(token=TOKEN))
        await greeted(wire)
    else:
        await node.client()
    (transport,) = node.transports()
    assert transport.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
