"""Connections for HTTP: what bounds their requests, and when they end."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport, StringTransportWithDisconnection
from twisted.python.failure import Failure

from nexus_tw.transport.http.channel import IDLE
from nexus_tw.transport.http.routes import Root
from nexus_tw.transport.http.site import BoundedSite
from tests.client import request
from tests.node import Nodes, limited
from tests.transport.http.admission import admission


@pytest_twisted.ensureDeferred
async def test_a_later_request_on_a_connection_is_bounded_like_the_first(nodes: Nodes) -> None:
    node = await nodes(limited(headers=1000))
    wire = await node.wire(request("GET", "/health/live", None))
    assert (await wire.response()).status == 200
    wire.write(request("GET", "/health/live", None, None, ["X-A: " + "x" * 1000]))
    assert (await wire.response()).status == 431
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_headers_larger_than_twisteds_own_limit_pass_where_they_may(nodes: Nodes) -> None:
    node = await nodes(limited(headers=40000))
    assert (await node.http("GET", "/health/live", None, None, ["X-A: " + "x" * 30000])).status == 200


@pytest.mark.parametrize("sent", [b"", b"GET /", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"])
def test_a_request_that_does_not_get_on_ends_the_connection_however_it_trickles(sent: bytes) -> None:
    clock = Clock()
    site: Any = BoundedSite(Root({}, admission(clock), print), clock, 1000, 1000)
    channel = site.buildProtocol(None)
    transport = StringTransportWithDisconnection()
    transport.protocol = channel
    channel.makeConnection(transport)
    channel.dataReceived(sent)
    for _ in range(IDLE - 1):
        clock.advance(1)
        channel.dataReceived(b"x")
        assert transport.connected
    clock.advance(2)
    assert not transport.connected


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_client_that_does_not_close_after_its_last_answer_is_dropped(sent: bytes) -> None:
    """As it could under TLS, where both sides close."""
    clock = Clock()
    site: Any = BoundedSite(Root({}, admission(clock), print), clock, 1000, 1000)
    channel = site.buildProtocol(None)
    transport: Any = StringTransport()
    channel.makeConnection(transport)
    channel.dataReceived(sent)
    assert transport.value() and transport.disconnecting
    clock.advance(IDLE - 0.1)
    assert not transport.disconnected
    clock.advance(0.2)
    assert transport.disconnected
    channel.connectionLost(Failure(ConnectionDone()))
    assert not clock.getDelayedCalls()
