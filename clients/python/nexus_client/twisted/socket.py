"""One WebSocket, from the connection to its end."""

from __future__ import annotations

from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from nexus_client.address import Address

REASON: Final = 123  # bytes of a close frame's reason: RFC 6455 section 5.5
LINGER: Final = 2.0  # seconds from the end of the closing handshake until the socket is dropped


class Owner(Protocol):
    """What a socket reports to."""

    def opened(self) -> None: ...

    def received(self, text: bytes) -> None: ...

    def binary(self) -> None: ...

    def lost(self, code: int, reason: str) -> None: ...

    def refused(self, status: int | None, retry_after: float | None, detail: str, certificate: bool) -> None: ...


class _Quiet:
    """Autobahn's logger would write the request with its token."""

    def _ignore(self, *_arguments: object, **_named: object) -> None:
        """Write nothing."""

    trace = debug = info = warn = error = critical = failure = _ignore


class Socket(WebSocketClientProtocol):
    """Report the socket's life to `owner`. It ends with exactly one `lost`, or with one `refused` if it was never open."""

    log = _Quiet()
    owner: Owner

    def __init__(self) -> None:
        super().__init__()
        self._is_open = False
        self._cause: Failure | None = None
        self._leaving: Any = None

    def onOpen(self) -> None:
        self._is_open = True
        self.owner.opened()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if isBinary:
            self.owner.binary()
        else:
            self.owner.received(payload)

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:
        answer = super().onCloseFrame(code, reasonRaw)
        if self._leaving is None:
            # The server ends the connection now, if it has received the answer.
            self._leaving = self.factory.reactor.callLater(LINGER, self.abort)
        return answer

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 - Twisted's own default
        self._cause = reason
        if self._leaving is not None and self._leaving.active():
            self._leaving.cancel()
        super().connectionLost(reason)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self._is_open:
            status, retry_after = self._answer()
            self.owner.refused(status, retry_after, self._detail(), is_certificate(self._cause))
        elif self.remoteCloseCode is not None and not self.closedByMe and not self.droppedByMe:
            self.owner.lost(self.remoteCloseCode, self.remoteCloseReason or "")
        else:
            self.owner.lost(1006, self._detail())

    def say(self, text: str) -> None:
        """Send a text message, unless the socket is closing: then `lost` will follow."""
        if self.state == self.STATE_OPEN:
            self.sendMessage(text.encode())

    def bid_farewell(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        # `sendClose` takes no code below 3000 but 1000.
        self.sendCloseFrame(
            code=code, reasonUtf8=reason.encode()[:REASON].decode(errors="ignore").encode() or None, isReply=False
        )

    def abort(self) -> None:
        """Drop the connection without a handshake."""
        self.transport.abortConnection()

    def _answer(self) -> tuple[int | None, float | None]:
        """Return the status of the server's refusal and its `Retry-After`, if there are."""
        words = str(getattr(self, "http_status_line", "")).split()
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else None
        after = str(getattr(self, "http_headers", {}).get("retry-after", "")).strip()
        return (None if status == 101 else status), (float(after) if after.isascii() and after.isdigit() else None)

    def _detail(self) -> str:
        if self.wasNotCleanReason:
            return str(self.wasNotCleanReason)
        return describe(self._cause)


def describe(failure: Failure | None) -> str:
    """Return why a connection failed or ended, for people."""
    if failure is None:
        return "the connection ended"
    return f"{failure.type.__name__}: {failure.value}" if failure.type else str(failure.value)


def is_certificate(failure: Failure | None) -> bool:
    """Return whether the server's certificate did not verify."""
    if failure is None:
        return False
    return isinstance(failure.value, VerificationError) or (
        isinstance(failure.value, SSL.Error) and "certificate verify failed" in str(failure.value)
    )


def factory_for(address: Address, owner: Owner, token: str | None, reactor: Any) -> Any:
    """Return a factory for one socket that presents the token."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    factory = WebSocketClientFactory(
        address.url, headers=headers, protocols=["nexus.v1.json"], useragent="nexus-client", reactor=reactor
    )
    factory.noisy = False
    factory.log = _Quiet()
    # The core bounds each phase of an attempt and watches for silence.
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, autoPingInterval=0)

    def build(_address: object) -> Socket:
        socket = Socket()
        socket.factory = factory
        socket.owner = owner
        return socket

    factory.buildProtocol = build
    return factory
