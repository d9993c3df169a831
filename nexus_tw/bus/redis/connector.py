"""Connects to a Redis server or a sentinel: the endpoint, and a first exchange with a timeout."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates

from nexus_tw.bus.redis.address import Address
from nexus_tw.bus.redis.connection import Connection, Unreachable
from nexus_tw.model.errors import ConfigError
from nexus_tw.net.trust import NamedServer

T = TypeVar("T")
C = TypeVar("C", bound=Connection)

Place = tuple[str, int]  # host and port

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Door:
    """Opens connections to the servers of one address, with its kind of encryption."""

    def __init__(self, reactor: Any, address: Address) -> None:
        """Raise `ConfigError` if the file of certificate authorities cannot be used."""
        self._reactor = reactor
        self._address = address
        self._trust = _authorities(address.ca) if address.ca else platformTrust()

    def _endpoint(self, host: str, port: int) -> IStreamClientEndpoint:
        if self._address.path:
            return UNIXClientEndpoint(self._reactor, self._address.path)
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, port)
        if self._address.tls:
            endpoint = wrapClientTLS(NamedServer(host, self._trust), endpoint)
        return endpoint

    async def talk(self, place: Place, connection: C, conversation: Callable[[C], Awaitable[T]], patience: float) -> T:
        """Connect and run that first exchange, all within `patience` seconds; return its result.

        If it fails, drop the connection and raise `Unreachable`.
        """

        async def connected() -> T:
            # The factory drops its reference to the connection, to be no part of a reference cycle.
            factory = Factory.forProtocol([connection].pop)
            factory.noisy = False
            await self._endpoint(*place).connect(factory)
            if not self._address.path:
                # Small commands follow each other before their answers arrive (Nagle's algorithm, RFC 896).
                connection.transport.setTcpNoDelay(True)
            return await conversation(connection)

        deadline = self._reactor.seconds() + patience
        try:
            return await Deferred.fromCoroutine(connected()).addTimeout(patience, self._reactor)
        except Unreachable:
            connection.fail("given up")
            raise
        except Exception as error:
            connection.fail("given up")
            # The exception of a timeout depends on the interrupted step.
            late = self._reactor.seconds() >= deadline
            why = f"no answer within {patience:g} s" if late else str(error)
            raise Unreachable(why or type(error).__name__) from None


def _authorities(path: str) -> Any:
    try:
        found = _CERTIFICATE.findall(Path(path).read_bytes())
        if not found:
            raise ValueError("no certificate in it")
        return trustRootFromCertificates([Certificate.loadPEM(pem) for pem in found])
    except Exception as error:
        raise ConfigError(f"bus.url: ca: the file cannot be used ({type(error).__name__})") from None
