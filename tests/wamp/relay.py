"""A relay between clients and a server: a test can cut its connections. It keeps little, and passes on how they end."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

SMALL = 16384  # bytes of a socket's buffers, so that a reader that has stopped is soon noticed

clock: Any = reactor


@implementer(IHalfCloseableProtocol)
class End(Protocol):
    """One end of a relayed connection."""

    transport: Any
    other: End | None = None

    def connectionMade(self) -> None:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.transport.socket.setsockopt(socket.SOL_SOCKET, option, SMALL)

    def join(self, other: End) -> None:
        self.other = other
        other.transport.registerProducer(self.transport, True)
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def readConnectionLost(self) -> None:
        if self.other is not None:
            self.other.transport.loseWriteConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.transport.unregisterProducer()
            if reason.check(ConnectionDone):
                other.transport.loseConnection()
            else:
                other.transport.abortConnection()


class Near(End):
    """The end to which a client connects."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connectionMade(self) -> None:
        super().connectionMade()
        relay = self._relay
        if relay.closed:
            self.transport.abortConnection()
            return
        relay.ends.add(self)
        self.transport.pauseProducing()
        server = TCP4ClientEndpoint(clock, "127.0.0.1", relay.server)
        connectProtocol(server, End()).addCallbacks(self._reached, lambda _: self.transport.abortConnection())

    def _reached(self, far: End) -> None:
        if not self.transport.connected:
            far.transport.abortConnection()
            return
        far.transport.pauseProducing()
        self.join(far)
        far.join(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._relay.ends.discard(self)
        super().connectionLost(reason)


class Relay(Factory):
    """Relays to the `server`'s port; while it is `closed` everybody who comes is reset."""

    noisy = False

    def __init__(self, server: int) -> None:
        self.server = server
        self.closed = False
        self.ends: set[Near] = set()
        self._port: Any = None

    async def listen(self) -> int:
        """Begins, and returns the port."""
        self._port = await TCP4ServerEndpoint(clock, 0, interface="127.0.0.1").listen(self)
        return int(self._port.getHost().port)

    def buildProtocol(self, _addr: object) -> Near:
        return Near(self)

    def reset(self) -> None:
        """Resets every connection, on both sides."""
        for end in tuple(self.ends):
            if end.other is not None:
                end.other.transport.abortConnection()
            end.transport.abortConnection()

    async def stop(self) -> None:
        await self._port.stopListening()
        self.reset()
