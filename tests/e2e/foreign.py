"""Another program on the same Redis that knows only the names of Nexus's channels: plain SUBSCRIBE and PUBLISH."""

from __future__ import annotations

import json
from typing import Any

import hiredis
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.e2e.server import clock

PREFIX = "nexus:events:"


class _Connection(Protocol):
    transport: Any

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._asked: list[Deferred[Any]] = []
        self.heard: list[tuple[str, Any]] = []

    def ask(self, *words: str) -> Deferred[Any]:
        parts = [word.encode() for word in words]
        self.transport.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
        answer: Deferred[Any] = Deferred()
        self._asked.append(answer)
        return answer.addTimeout(10, clock)

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, list) and reply[0] == b"message":
                self.heard.append((reply[1].decode().removeprefix(PREFIX), json.loads(reply[2])))
            else:
                self._asked.pop(0).callback(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        asked, self._asked = self._asked, []
        for waiting in asked:
            waiting.errback(reason)


class Foreign:
    """One such program, with a connection for each direction; `heard` has the (event type, data) received so far."""

    def __init__(self, publisher: _Connection, subscriber: _Connection) -> None:
        self._publisher = publisher
        self._subscriber = subscriber
        self.heard = subscriber.heard

    async def subscribe(self, event_type: str) -> None:
        await self._subscriber.ask("SUBSCRIBE", PREFIX + event_type)

    async def publish(self, event_type: str, data: Any) -> None:
        await self._publisher.ask("PUBLISH", PREFIX + event_type, json.dumps(data))

    def leave(self) -> None:
        for connection in (self._publisher, self._subscriber):
            connection.transport.abortConnection()


async def join(port: int) -> Foreign:
    """Connect to the Redis on that port."""
    endpoint = TCP4ClientEndpoint(clock, "127.0.0.1", port)
    publisher: _Connection = await connectProtocol(endpoint, _Connection())
    subscriber: _Connection = await connectProtocol(endpoint, _Connection())
    return Foreign(publisher, subscriber)
