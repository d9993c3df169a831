"""The network between a proxy and a node, which can be cut: then nothing answers any more, and nothing is reset."""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

FILLERS = 4  # connections that nobody accepts; with a backlog of 0 there is room for one
BACKLOG = 128

clock: Any = reactor


class Cable:
    """Relays connections to `port`. When cut, it behaves like a machine without power: packets to it are lost."""

    def __init__(self, target: int) -> None:
        self.node = TCP4ClientEndpoint(clock, "127.0.0.1", target)
        self.ends: list[End] = []
        self._fillers: list[socket.socket] = []
        self.port = 0
        self._listening: Any = None
        self.listen()

    def listen(self) -> None:
        """Accept connections, on the same port each time."""
        factory = Factory.forProtocol(self.front)
        factory.noisy = False
        self._listening = clock.listenTCP(self.port, factory, BACKLOG, "127.0.0.1")
        self.port = self._listening.getHost().port

    def front(self) -> End:
        """Return the end towards the proxy, for a new connection."""
        return Front(self)

    def back(self, front: End) -> End:
        """Return the end towards the node."""
        return Node(self, front)

    def cut(self) -> None:
        """Let nothing pass in either direction, and do not even refuse new connections: their SYN is dropped."""
        for end in self.ends:
            end.transport.pauseProducing()
        self._listening.stopReading()
        # Linux drops a SYN for which there is no room among the connections that wait to be accepted.
        self._listening.socket.listen(0)
        for _ in range(FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)
        assert not select.select([], self._fillers[-1:], [], 0)[1], "a connection is still taken"

    def repair(self) -> None:
        """Let connections pass again; those from before are unknown."""
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        for end in list(self.ends):
            end.transport.abortConnection()
        self._listening.socket.listen(BACKLOG)
        self._listening.startReading()

    def discard(self) -> None:
        self.repair()
        self._listening.stopListening()


class End(Protocol):
    """Half of a connection."""

    transport: Any

    def __init__(self, cable: Cable, other: End | None = None) -> None:
        self.cable = cable
        self.other = other

    def connectionMade(self) -> None:
        self.cable.ends.append(self)

    def dataReceived(self, data: bytes) -> None:
        assert self.other is not None
        self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.cable.ends.remove(self)
        if self.other is not None:
            self.other.transport.loseConnection()


class Front(End):
    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.pauseProducing()
        factory = Factory.forProtocol(lambda: self.cable.back(self))
        factory.noisy = False
        self.cable.node.connect(factory).addErrback(lambda _: self.transport.abortConnection())


class Node(End):
    def connectionMade(self) -> None:
        super().connectionMade()
        assert self.other is not None
        if self.other not in self.cable.ends:
            self.transport.abortConnection()
            return
        self.other.other = self
        self.other.transport.resumeProducing()
