"""Autobahn|Python's sessions on Twisted, over WebSocket or RawSocket, as its users write them."""

from __future__ import annotations

from typing import Any, Final

from autobahn.twisted.rawsocket import WampRawSocketClientFactory
from autobahn.twisted.wamp import Session
from autobahn.twisted.websocket import WampWebSocketClientFactory
from autobahn.wamp.auth import create_authenticator
from autobahn.wamp.serializer import CBORSerializer, JsonSerializer, MsgPackSerializer
from autobahn.wamp.types import CloseDetails, ComponentConfig
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint

from tests.client import PATIENCE
from tests.wamp.router import Router
from tests.wamp.users import USERS, User

SERIALIZERS: Final = {"json": JsonSerializer, "msgpack": MsgPackSerializer, "cbor": CBORSerializer}
SHOWN: Final = {"ticket": "ticket", "wampcra": "secret", "cryptosign": "privkey", "scram": "password"}
"""By method, what Autobahn calls that which a user shows."""

ANYBODY: Final = USERS["anonymous"]

clock: Any = reactor


class Left(Exception):
    """The session was refused or ended; `details` say why."""

    def __init__(self, details: CloseDetails) -> None:
        super().__init__(details.reason, details.message)
        self.details = details


class Member(Session):
    """One session. `joined` fires with its details or fails with `Left`; `left` fires when it is over."""

    def __init__(self, config: ComponentConfig) -> None:
        super().__init__(config)
        self.joined: Deferred[Any] = Deferred()
        self.left: Deferred[CloseDetails] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def on_join(self, details: Any) -> None:
        self.details = details
        self.joined.callback(details)

    def on_leave(self, details: CloseDetails) -> None:
        if not self.joined.called:
            self.joined.errback(Left(details))
        self.left.callback(details)
        self.disconnect()

    def on_disconnect(self) -> None:
        if not self.gone.called:
            self.gone.callback(None)

    async def finish(self) -> None:
        """Leaves, if it is still there, and waits for the connection to be over."""
        if self.is_attached():
            self.leave()
        if self.is_connected():
            await self.gone.addTimeout(PATIENCE, clock)


def member(realm: str, user: User) -> Member:
    """A session for that user."""
    shown = {"authid": user.authid, SHOWN[user.method]: user.secret} if user.method in SHOWN else {}
    session = Member(ComponentConfig(realm))
    session.add_authenticator(create_authenticator(user.method, **shown))
    return session


async def open_up(session: Member, router: Router, transport: str = "ws", serializer: str = "json") -> Member:
    """Connects and joins; raises `Left` where the router refuses."""
    chosen = SERIALIZERS[serializer]()
    factory: Any
    if transport == "ws":
        factory = WampWebSocketClientFactory(lambda: session, url=router.ws, serializers=[chosen])
    else:
        factory = WampRawSocketClientFactory(lambda: session, serializer=chosen)
    factory.noisy = False
    await TCP4ClientEndpoint(clock, "127.0.0.1", router.port).connect(factory).addTimeout(PATIENCE, clock)
    await session.joined.addTimeout(PATIENCE, clock)
    return session


class Sessions:
    """Makes sessions for one test, and ends them after it."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._made: list[Member] = []

    async def __call__(
        self,
        way: tuple[str, str] = ("ws", "json"),
        realm: str = "realm1",
        user: User = ANYBODY,
    ) -> Member:
        self._made.append(member(realm, user))
        return await open_up(self._made[-1], self._router, *way)

    async def end(self) -> None:
        for session in self._made:
            await session.finish()
