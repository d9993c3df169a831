"""A JSON client over ws or wss, on Autobahn's client protocol: what a test waits for is awaited.

As a program it stays connected and says so: `python -m tests.e2e.agent URL AUTHORITY TOKEN` writes a JSON line for each
thing that happens, beginning with the seconds since it began.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, connectWS
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.ssl import Certificate, optionsForClientTLS
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

clock: Any = reactor


class Agent(WebSocketClientProtocol):
    """One connection. `closed` fires with (code, reason) when it ends."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived: DeferredQueue[dict[str, Any] | None] = DeferredQueue()
        self.closed: Deferred[tuple[int | None, str | None]] = Deferred()
        self.over: tuple[int | None, str | None] | None = None

    def onOpen(self) -> None:
        self.factory.opened.callback(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert not isBinary
        self._arrived.put(json.loads(payload))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.over = (code, reason)
        if not self.factory.opened.called:
            self.factory.opened.errback(ConnectionError(f"no WebSocket: {code} {reason}"))
        self._arrived.put(None)
        self.closed.callback(self.over)

    def tell(self, **message: Any) -> None:
        self.sendMessage(json.dumps(message).encode())

    async def next(self, type_: str, seconds: float = 10) -> dict[str, Any]:
        """Return the next message of that type, skipping others. Raise ConnectionError at the end."""
        while (message := await self.receive(seconds))["type"] != type_:
            pass
        return message

    async def answer(self, id_: int | str, seconds: float = 10) -> dict[str, Any]:
        """Return the reply with that `id`, skipping other messages. Raise ConnectionError at the end."""
        while (message := await self.receive(seconds)).get("id") != id_:
            pass
        return message

    async def receive(self, seconds: float) -> dict[str, Any]:
        """Return the next message. Raise ConnectionError at the end."""
        message = await self._arrived.get().addTimeout(seconds, clock)
        if message is None:
            self._arrived.put(None)
            raise ConnectionError(f"closed: {self.over}")
        return message

    async def leave(self) -> None:
        if self.over is None:
            self.sendClose(1000)
            await self.closed


class _Factory(WebSocketClientFactory):
    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.opened.errback(ConnectionError(f"no connection: {reason.getErrorMessage()}"))


async def connect(
    url: str,
    token: str | None = None,
    *,
    authority: Path | None = None,
    origin: str | None = None,
    address: str | None = None,
    headers: dict[str, str] | None = None,
) -> Agent:
    """Return an open connection that has received `connected`. Raise ConnectionError if it is refused.

    `token` goes into the query, as browsers send it; `address` is a local one to connect from (127.0.0.2 is another client).
    """
    factory = _Factory(f"{url}?token={token}" if token else url, origin=origin, headers=headers or {})
    factory.protocol = Agent
    factory.noisy = False
    factory.opened = Deferred()
    trust = None
    if authority is not None:
        trust = optionsForClientTLS("localhost", trustRoot=Certificate.loadPEM(authority.read_bytes()))
    bind = (address, 0) if address else None
    connectWS(factory, contextFactory=trust, bindAddress=bind)
    agent: Agent = await factory.opened.addTimeout(10, clock)
    await agent.next("connected")
    return agent


async def connect_when_up(url: str, token: str, authority: Path) -> Agent:
    """Connect, and retry while server and proxy are still starting."""
    for _ in range(100):
        try:
            return await connect(url, token, authority=authority)
        except ConnectionError:
            await deferLater(clock, 0.2)
    raise ConnectionError(f"nobody at {url}")


async def stay(url: str, authority: Path, token: str) -> None:
    began = clock.seconds()

    def say(**what: Any) -> None:
        print(json.dumps({"at": clock.seconds() - began} | what), flush=True)

    agent = await connect_when_up(url, token, authority)
    say(event="open")
    agent.closed.addCallback(lambda end: say(event="closed", code=end[0], reason=end[1]))
    # One message a session later shows that the connection carries, and not only stands.
    agent.tell(type="subscribe", events=["idle.end"])
    await agent.next("subscribed")
    event = await agent.next("event", 3600)
    say(event="event", data=event["data"])
    await agent.leave()


if __name__ == "__main__":
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.task import react

    react(lambda _reactor: ensureDeferred(stay(sys.argv[1], Path(sys.argv[2]), sys.argv[3])))
