"""Plain HTTP that has to wait: for a client that does not read, for an authenticator, for room, over every kind of socket."""

from __future__ import annotations

import gzip
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from zope.interface import implementer

from nexus_tw.auth import Authenticators
from nexus_tw.interfaces.plugins import Credentials, IAuthenticator
from nexus_tw.model.errors import NexusError
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits, Settings, Tls
from nexus_tw.transport.listening import endpoints
from tests.bus.recording import reactor
from tests.certificates import issue
from tests.client import Wire, request
from tests.fakes import HandBus
from tests.node import TOKEN, Node, Nodes, limited, turns, until
from tests.recording import principal
from tests.transport.test_rawsocket import Showing

EVENTS = "/api/v1/events"
EVENT = json.dumps({"eventType": "a.b", "data": 1}).encode()
READ = 65536  # bytes that the reactor reads at once


async def tcp(node: Node, _directory: Path) -> Any:
    return node.here


async def tls(node: Node, directory: Path) -> Any:
    certificate, key = issue().write(directory, "server")
    files = Tls(certificate=certificate, key=key)
    port = await node.listen(endpoints.endpoint(reactor, "tls:0:interface=127.0.0.1", files))
    return wrapClientTLS(Showing(None), HostnameEndpoint(reactor, "127.0.0.1", port.getHost().port))


async def unix(node: Node, directory: Path) -> Any:
    path = directory / "socket"
    await node.listen(endpoints.endpoint(reactor, f"unix:{path}", Tls()))
    return UNIXClientEndpoint(reactor, str(path))


SOCKETS: dict[str, Callable[[Node, Path], Awaitable[Any]]] = {"tcp": tcp, "tls": tls, "unix": unix}


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("socket", SOCKETS)
@pytest_twisted.ensureDeferred
async def test_requests_whose_answers_are_never_read_wait_in_the_client(
    socket: str, method: str, nodes: Nodes, tmp_path: Path
) -> None:
    """One answer beyond what the socket takes, and one read of requests, whatever is asked for and over whatever."""
    node = await nodes()
    ask = request(method, "/", None)
    wire = await node.wire(ask, await SOCKETS[socket](node, tmp_path))
    await wire.response(method)
    wire.transport.pauseProducing()
    channels: Any = node.server.connections._visits
    (channel,) = channels
    # More than the answers belong to that sockets hold.
    many = ask * 1000
    for _ in range(1000):
        wire.write(many)
        await turns(1)
        assert len(channel._socket.dataBuffer) + channel._socket._tempDataLen < 32768
        assert len(channel._buffer) + sum(map(len, channel._dataBuffer)) <= 2 * READ
        if channel._waitingForTransport and not channel.gate._open:
            break
    else:
        raise AssertionError("the reading was never paused")
    wire.transport.resumeProducing()
    status = b"HTTP/1.1 204" if method == "OPTIONS" else b"HTTP/1.1 200"
    await until(lambda: wire.data.count(status) > 500)
    wire.drop()
    await until(lambda: node.server.connections.visits == 0)


@implementer(IAuthenticator)
class Asks:
    """An authenticator that asks somebody who takes time."""

    def __init__(self) -> None:
        self.asked: list[Deferred[Principal]] = []

    def authenticate(self, _credentials: Credentials) -> Deferred[Principal]:
        self.asked.append(Deferred())
        return self.asked[-1]


async def asked(nodes: Nodes, size: int, auth: float = 10) -> tuple[Node, Asks, Wire, Any]:
    """A node whose authenticator was asked for the sender of a body of that size, all of which was sent."""
    authenticator = Asks()
    node = await nodes(limited(auth=auth), authenticators=Authenticators([authenticator]))
    wire = await node.wire(request("POST", EVENTS, "a-token-of-somebody", EVENT.ljust(size)))
    await until(lambda: authenticator.asked)
    await turns(20)
    channels: Any = node.server.connections._visits
    (channel,) = channels
    (pending,) = channel.requests
    return node, authenticator, wire, pending


@pytest_twisted.ensureDeferred
async def test_while_the_sender_is_being_found_out_one_read_of_the_body_is_held(nodes: Nodes) -> None:
    node, authenticator, wire, pending = await asked(nodes, 3_000_000)
    pot = node.server.doors.admission.bodies
    assert len(pending.body._data) <= READ and pot.taken == 0
    authenticator.asked[0].callback(principal())
    response = await wire.response()
    assert (response.status, response.json["published"][0]["eventType"]) == (200, "a.b")
    await until(lambda: pot.taken == 0)


@pytest_twisted.ensureDeferred
async def test_a_sender_that_is_not_let_in_is_told_and_its_body_is_passed_over(nodes: Nodes) -> None:
    node, authenticator, wire, pending = await asked(nodes, 3_000_000)
    authenticator.asked[0].errback(NexusError("unauthorized", "no"))
    assert (await wire.response()).status == 401
    await until(lambda: pending.body.whole)
    assert len(pending.body._data) == 0 and node.server.doors.admission.bodies.taken == 0
    wire.write(request("GET", "/health/live", None))
    assert (await wire.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_while_its_sender_is_being_found_out_leaves_nothing(nodes: Nodes) -> None:
    """As nothing is read of it meanwhile, this is noticed when there is an answer, or the time for one is over."""
    node, authenticator, wire, pending = await asked(nodes, 3_000_000, auth=0.3)
    wire.drop()
    await until(lambda: node.server.connections.visits == 0)
    authenticator.asked[0].callback(principal())
    await turns()
    assert len(pending.body._data) == 0 and node.server.doors.admission.bodies.taken == 0


@pytest_twisted.ensureDeferred
async def test_new_connections_of_plain_http_are_counted_by_their_rate_and_requests_on_them_are_not(nodes: Nodes) -> None:
    node = await nodes(limited(connect_rate=1))
    first, page = await node.wire(), request("GET", "/", None)
    for _ in range(20):
        first.write(page)
        assert (await first.response()).status == 200
    for _ in range(3):
        late = await node.wire(page)
        refused = await late.response()
        assert (refused.status, refused.json["code"]) == (503, "rate_limited") and int(refused.headers["retry-after"]) >= 1
        assert await late.rest() == b""
    assert node.metrics.connections_refused["connect_rate"] == 3


@pytest_twisted.ensureDeferred
async def test_a_subject_has_its_connections_over_plain_http_and_websocket_together(nodes: Nodes) -> None:
    node = await nodes(Settings(limits=Limits(connections_per_subject=2)))
    socket = await node.client()
    post = request("POST", EVENTS, TOKEN, EVENT)
    kept = await node.wire(post)
    assert (await kept.response()).status == 200
    kept.write(post)
    assert (await kept.response()).status == 200, "it is one connection, however many requests come on it"
    more = await node.wire(post)
    refused = await more.response()
    assert (refused.status, refused.json["code"]) == (429, "rate_limited") and "retry-after" in refused.headers
    assert await more.rest() == b""
    assert (await node.refusal(token=TOKEN)).status == 429
    assert node.metrics.connections_refused["connections_per_subject"] == 2
    socket.drop()
    await node.connected(0)
    assert (await node.http("POST", EVENTS, TOKEN, EVENT)).status == 200


@pytest_twisted.ensureDeferred
async def test_bodies_that_unpack_to_much_are_counted_by_what_they_became_while_they_are_served(nodes: Nodes) -> None:
    bus = HandBus()
    node = await nodes(limited(bodies=400_000), bus=bus)
    bus.takes = False
    size = 30_000
    packed = gzip.compress(json.dumps({"eventType": "a.b", "data": "x" * size}).encode())
    assert len(packed) < 200
    post = request("POST", EVENTS, TOKEN, packed, ["Content-Encoding: gzip"])
    wires = [await node.wire(post) for _ in range(8)]
    pot = node.server.doors.admission.bodies
    taken = 100_000 // (size + 100)  # that fit into the share of one subject
    await until(lambda: len(bus.untaken) == taken and sum(b"429" in wire.data for wire in wires) == len(wires) - taken)
    assert pot.taken <= pot.share
    for done in bus.untaken:
        done(None)
    statuses = [(await wire.response()).status for wire in wires]
    assert (statuses.count(200), statuses.count(429)) == (taken, len(wires) - taken)
    await until(lambda: pot.taken == 0)
    assert node.metrics.shares_refused["bodies"] == len(wires) - taken
