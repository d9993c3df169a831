"""Reads a small document over https from a configured address, and only from the server that its certificate names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import platformTrust
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IPolicyForHTTPS
from zope.interface import implementer

from nexus_tw.net.trust import NamedServer

MAX_BODY: Final = 262144  # bytes
CONNECT_TIMEOUT: Final = 5.0  # seconds

Read = Callable[[], Awaitable[bytes]]


def https_agent(reactor: Any, trust: Any = None) -> IAgent:
    """Return an agent that trusts the platform's certificate authorities, or `trust` (as by `trustRootFromCertificates`)."""
    return Agent(reactor, NamedServers(trust or platformTrust()), connectTimeout=CONNECT_TIMEOUT)


@implementer(IPolicyForHTTPS)
class NamedServers:
    """Requires servers to present a certificate for their name."""

    def __init__(self, trust: Any) -> None:
        self._trust = trust

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        return NamedServer(hostname.decode("ascii"), self._trust)


def check_address(address: str) -> None:
    """Raise ValueError if this is not a usable https address."""
    try:
        parts = urlsplit(address)
        usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not address.isascii() or not address.isprintable() or " " in address:
        raise ValueError("neither an https address nor a file")
    if parts.username is not None or parts.fragment:
        raise ValueError("an address here has neither user nor fragment")


def https_reader(agent: IAgent, address: str) -> Read:
    """Return a reader that uses GET; redirections are not followed, as they could lead anywhere."""

    async def read() -> bytes:
        headers = Headers({"Accept": ["application/jwk-set+json, application/json"], "User-Agent": ["Nexus"]})
        response = await agent.request(b"GET", address.encode("ascii"), headers)
        body = _Body(MAX_BODY if response.code == 200 else 0)
        response.deliverBody(body)
        if response.code != 200:
            raise ValueError(f"HTTP status {response.code}")
        return await body.finished

    return read


class _Body(Protocol):
    """A response's body of a bounded number of bytes; the connection is dropped if there are more or the reader cancels."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.finished: Deferred[bytes] = Deferred(lambda _: self._stop())

    def connectionMade(self) -> None:
        if self._limit == 0:
            self._stop()

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            self._stop()
            if not self.finished.called:
                self.finished.errback(ValueError(f"more than {self._limit} bytes"))
        else:
            self._parts.append(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        if not self.finished.called and self._limit:
            if reason.check(ResponseDone):
                self.finished.callback(b"".join(self._parts))
            else:
                self.finished.errback(reason)

    def _stop(self) -> None:
        # Not loseConnection: it would wait for the other side's TLS closure.
        transport: Any = self.transport
        transport.stopProducing()
