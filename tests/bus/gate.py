"""A relay in front of a Redis that can fail in several ways while both sides are up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from tests.bus.recording import reactor

# What to answer to a command: bytes, None to pass it on to Redis, or "drop" to end the connection.
Answer = Callable[[list[bytes]], bytes | str | None]


def pass_on(_: list[bytes]) -> None:
    """Pass everything on, as if there were no gate."""


class Gate:
    """Listens on `port`. `answer` decides on each command of a client; while `silent`, nothing passes in either direction;
    what Redis sends is held back for `delay` seconds."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.answer: Answer = pass_on
        self.silent = False
        self.delay = 0.0
        self.connections = 0
        self.commands: list[list[bytes]] = []
        self._open: list[_Client] = []

    async def open(self) -> None:
        factory = Factory.forProtocol(lambda: _Client(self))
        factory.noisy = False
        self._listening: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.port = self._listening.getHost().port
        self.url = f"redis://127.0.0.1:{self.port}"

    async def close(self) -> None:
        await self._listening.stopListening()
        for client in list(self._open):
            client.transport.abortConnection()
        while self._open:
            await self._open[0].gone


class _Client(Protocol):
    transport: Any

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._reader = hiredis.Reader()
        self._server: Any = None
        self._waiting: list[bytes] = []
        self._due = 0.0  # when what was held back last is passed on
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self._gate.connections += 1
        self._gate._open.append(self)
        factory = Factory.forProtocol(lambda: _Server(self))
        factory.noisy = False
        TCP4ClientEndpoint(reactor, "127.0.0.1", self._gate.target).connect(factory).addErrback(lambda _: self.drop())

    def linked(self, server: Any) -> None:
        self._server = server
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.dataReceived(data)

    def dataReceived(self, data: bytes) -> None:
        if self._server is None:
            self._waiting.append(data)
            return
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            self._gate.commands.append(command)
            answer = None if self._gate.silent else self._gate.answer(command)
            if answer == "drop":
                self.drop()
                return
            if isinstance(answer, bytes):
                self.transport.write(answer)
            elif not self._gate.silent:
                words = [b"$%d\r\n%b\r\n" % (len(word), word) for word in command]
                self._server.write(b"*%d\r\n" % len(words) + b"".join(words))

    def from_server(self, data: bytes) -> None:
        if self._gate.silent:
            return
        now = reactor.seconds()
        self._due = max(now + self._gate.delay, self._due)
        if self._due > now:
            reactor.callLater(self._due - now, self.transport.write, data)
        else:
            self.transport.write(data)

    def drop(self) -> None:
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - as the base class has it
        self._gate._open.remove(self)
        if self._server is not None:
            self._server.abortConnection()
        self.gone.callback(None)


class _Server(Protocol):
    transport: Any

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connectionMade(self) -> None:
        if self._client.gone.called:
            self.transport.abortConnection()
        else:
            self._client.linked(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._client.from_server(data)

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008 - as the base class has it
        if not self._client.gone.called:
            self._client.drop()
