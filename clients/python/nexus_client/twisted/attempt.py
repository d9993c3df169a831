"""One attempt to connect: the token, the connection, the socket, and one report of its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure

from nexus_client.address import Address
from nexus_client.core.core import Core
from nexus_client.twisted.results import deferred
from nexus_client.twisted.socket import Socket, describe, factory_for, is_certificate

Token = str | Callable[[], "str | Deferred[str] | Awaitable[str]"] | None


class Attempt:
    """Attempt `number` of the core. `now` gives the core's time, `after` is called after each report."""

    def __init__(
        self,
        number: int,
        core: Core,
        reactor: Any,
        now: Callable[[], float],
        address: Address,
        token: Token,
        tls: Any,
        after: Callable[[], None],
    ) -> None:
        self._number = number
        self._core = core
        self._reactor = reactor
        self._now = now
        self._address = address
        self._token = token
        self._tls = tls
        self._after = after
        self._socket: Socket | None = None
        self._pending: Deferred[Any] | None = None
        self._dropped = False

    def begin(self) -> None:
        """Ask for the token, then connect."""
        wanted: Deferred[Any] = deferred(self._token) if callable(self._token) else deferred(lambda: self._token)
        self._pending = wanted
        wanted.addCallbacks(self._connect, self._no_token)
        wanted.addErrback(self._failed)

    def send(self, text: str) -> None:
        if self._socket is not None:
            self._socket.say(text)

    def close(self, code: int, reason: str) -> None:
        if self._socket is not None:
            self._socket.bid_farewell(code, reason)

    def drop(self) -> None:
        """Give it up in whatever phase it is."""
        self._dropped = True
        if self._socket is not None:
            self._socket.abort()
        elif self._pending is not None:
            self._pending.cancel()

    # What happens on the way.

    def _no_token(self, failure: Failure) -> None:
        self._pending = None
        if self._dropped:
            self.lost(1006, "given up")
        else:
            # The text of an exception may hold what it was about.
            self._core.token_failed(self._now(), self._number, failure.type.__name__ if failure.type else "failure")
            self._after()

    def _connect(self, token: str | None) -> Deferred[Any] | None:
        self._pending = None
        if self._dropped:
            self.lost(1006, "given up")
            return None
        if token is not None and not self._core.token(self._now(), self._number, token):
            self._after()
            return None
        endpoint: Any = HostnameEndpoint(self._reactor, self._address.host, self._address.port)
        if self._address.secure:
            endpoint = wrapClientTLS(self._tls or optionsForClientTLS(self._address.host), endpoint)
        connecting: Deferred[Any] = endpoint.connect(factory_for(self._address, self, token, self._reactor))
        self._pending = connecting
        connecting.addCallback(self._connected)
        return connecting

    def _connected(self, socket: Socket) -> None:
        self._pending = None
        self._socket = socket
        if self._dropped:
            socket.abort()

    def _failed(self, failure: Failure) -> None:
        self._pending = None
        if failure.check(CancelledError) and self._dropped:
            self.lost(1006, "given up")
        else:
            self.refused(None, None, describe(failure), is_certificate(failure))

    # What the socket reports.

    def opened(self) -> None:
        self._core.opened(self._now(), self._number)
        self._after()

    def received(self, text: bytes) -> None:
        self._core.received(self._now(), self._number, text)
        self._after()

    def binary(self) -> None:
        self._core.binary(self._now(), self._number)
        self._after()

    def lost(self, code: int, reason: str) -> None:
        self._core.lost(self._now(), self._number, code, reason)
        self._after()

    def refused(self, status: int | None, retry_after: float | None, detail: str, certificate: bool) -> None:
        self._core.refused(self._now(), self._number, status, retry_after, detail, certificate)
        self._after()
