"""The outbox of a connection under TLS: records leave at once, and nothing changes its place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.python.failure import Failure

from nexus_tw.model.errors import SLOW_CONSUMER, Close
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits, Settings, Tls
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.backlog import HARD, Backlog
from nexus_tw.transport.listening import endpoints
from nexus_tw.transport.outbox import Outbox
from tests.certificates import authority, issue
from tests.e2e.server import until

BLOCK = 50_000  # several records


class End(Protocol):
    """One end of a connection."""

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


class Pair:
    def __init__(self, served: End, client: End, limit: int) -> None:
        self.served = served
        self.client = client
        self.closed: list[Close] = []
        self.outbox = Outbox(served.transport, Turn(reactor), Backlog(reactor, Limits(send_queue=limit // HARD)), limit, self)

    account = "somebody"

    def overrun(self) -> None:
        raise AssertionError("there is room")

    def identified(self, principal: Principal) -> None:
        raise AssertionError("nobody says so")

    def note(self, text: str) -> None:
        raise AssertionError(text)

    def count(self, messages: int) -> None:
        raise AssertionError("no message stands for others")

    def charge(self, size: int) -> None:
        raise AssertionError("nothing is told again")

    def probe(self, done: Callable[[], None]) -> None:
        raise AssertionError("nobody asks")

    def finish(self, close: Close) -> None:
        raise AssertionError("nobody leaves")

    def close(self, close: Close) -> None:
        self.closed.append(close)

    @property
    def socket(self) -> Any:
        """The transport of the server's socket, below TLS."""
        return self.served.transport.transport


@pytest_twisted.async_yield_fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    certificate, key = issue().write(tmp_path, "server")
    served, client = End(), End()
    settings = Settings(tls=Tls(certificate=certificate, key=key))
    endpoint = endpoints.endpoint(reactor, "tls:0:interface=127.0.0.1", settings.tls)
    port: Any = await endpoint.listen(Factory.forProtocol(lambda: served))
    trust = trustRootFromCertificates([Certificate.loadPEM(authority().certificate_pem())])
    plain = HostnameEndpoint(reactor, "127.0.0.1", port.getHost().port)
    await wrapClientTLS(optionsForClientTLS("localhost", trust), plain).connect(Factory.forProtocol(lambda: client))
    client.transport.write(b"hello")
    await until(lambda: served.received == b"hello")
    pair = Pair(served, client, 4 * BLOCK)
    yield pair
    for end in (client, served):
        end.transport.abortConnection()
    await until(lambda: served.lost and client.lost)
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_what_is_pushed_is_in_the_socket_at_once(pair: Pair) -> None:
    pair.outbox.push(b"now")
    assert not pair.socket._tempDataBuffer and not pair.socket.dataBuffer
    assert pair.outbox.waiting() == 0
    await until(lambda: pair.client.received == b"now")


@pytest_twisted.ensureDeferred
async def test_what_was_written_past_the_outbox_stays_before_what_it_sends(pair: Pair) -> None:
    expected = b""
    for number in range(20):
        pair.served.transport.write(b"past %d " % number)
        pair.outbox.push(b"through %d " % number)
        expected += b"past %d through %d " % (number, number)
    await until(lambda: len(pair.client.received) >= len(expected))
    assert bytes(pair.client.received) == expected


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read_gets_all_in_order_later_and_is_closed_past_the_limit(pair: Pair) -> None:
    pair.client.transport.pauseProducing()
    sent = b""
    number = 0
    while not pair.closed:
        block = b"%010d" % number * (BLOCK // 10)
        pair.outbox.push(block)
        sent += block
        number += 1
        assert pair.outbox.waiting() < 6 * BLOCK
    assert pair.closed[0] == SLOW_CONSUMER
    pair.client.transport.resumeProducing()
    await until(lambda: len(pair.client.received) >= len(sent))
    assert bytes(pair.client.received) == sent
