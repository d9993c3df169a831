"""One WebSocket over asyncio, on the protocol without I/O of `websockets`.

Its own connection class is not used: this one handles all messages of a read in one pass, joins what is sent in a turn of the
loop into one write, follows no redirect (which would take the token elsewhere) and uses no proxy of the environment.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from nexus_client.address import Address

SUBPROTOCOL: Final = Subprotocol("nexus.v1.json")
REASON: Final = 123  # bytes of a close frame's reason: RFC 6455 section 5.5
LINGER: Final = 5.0  # seconds that a server has to close TCP after the closing handshake

# The library's own log would hold the request with its token; no configuration of the application may enable this one.
_SILENT: Final = logging.Logger("nexus_client.websocket", logging.CRITICAL + 1)  # noqa: LOG001 - getLogger's can be enabled


class Owner(Protocol):
    """What a socket reports to."""

    def opened(self) -> None: ...

    def received(self, text: bytes) -> None: ...

    def binary(self) -> None: ...

    def lost(self, code: int, reason: str) -> None: ...

    def refused(self, status: int | None, retry_after: float | None, detail: str) -> None: ...


class Socket(asyncio.Protocol):
    """Report the socket's life to `owner`. It ends with exactly one `lost`, or with one `refused` if it was never open."""

    def __init__(self, owner: Owner, address: Address, token: str | None) -> None:
        self._owner = owner
        self._token = token
        self._loop = asyncio.get_running_loop()
        self._websocket = ClientProtocol(
            parse_uri(address.url), subprotocols=[SUBPROTOCOL], max_size=None, logger=_SILENT
        )
        self._transport: asyncio.Transport | None = None
        self._is_open = False
        self._began_to_close = False
        self._parts: list[bytes] = []
        self._flushing = False
        self._linger: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # The owner's side.

    def say(self, text: str) -> None:
        """Send a text message; nothing once the connection closes."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_text(text.encode())
            self._flush_soon()

    def bid_farewell(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""
        if self._websocket.state is State.OPEN:
            self._began_to_close = True
            self._websocket.send_close(code, reason.encode()[:REASON].decode(errors="ignore"))
            self._flush_soon()

    def abort(self) -> bool:
        """Drop the connection without a handshake. Return false if there is none yet."""
        if self._transport is None:
            return False
        self._transport.abort()
        return True

    async def drained(self) -> None:
        """Return once the network has taken most of what was sent, or the connection has ended."""
        await self._writable.wait()

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        request = self._websocket.connect()
        request.headers["User-Agent"] = "nexus-client"
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
            self._token = None
        self._websocket.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._websocket.receive_data(data)
        self._read()

    def eof_received(self) -> None:
        self._websocket.receive_eof()
        self._read()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._writable.set()
        if self._linger is not None:
            self._linger.cancel()
        websocket = self._websocket
        if not self._is_open:
            self._refused(exc)
        elif websocket.close_rcvd is not None and not self._began_to_close and websocket.parser_exc is None:
            self._owner.lost(websocket.close_rcvd.code, websocket.close_rcvd.reason)
        else:
            violation = None if isinstance(websocket.parser_exc, EOFError) else websocket.parser_exc
            self._owner.lost(1006, describe(violation or exc))

    def _read(self) -> None:
        for event in self._websocket.events_received():
            if isinstance(event, Frame):
                self._frame(event)
            elif isinstance(event, Response) and self._websocket.handshake_exc is None:
                self._is_open = True
                self._owner.opened()
        self._flush_soon()
        if self._transport is not None and self._websocket.handshake_exc is not None:
            self._transport.close()
        elif self._linger is None and self._websocket.close_expected():
            self._linger = self._loop.call_later(LINGER, self.abort)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            self._owner.received(bytes(frame.data))
        elif frame.opcode is Opcode.BINARY:
            self._owner.binary()
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._parts.append(bytes(frame.data))
            if frame.fin:
                whole = b"".join(self._parts)
                self._parts.clear()
                self._owner.received(whole)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        waiting = self._websocket.data_to_send()
        data = b"".join(waiting)
        if self._transport is None or self._transport.is_closing():
            return
        if data:
            self._transport.write(data)
        if waiting and not waiting[-1]:  # how the library says that nothing follows
            self._transport.close()

    def _refused(self, exc: Exception | None) -> None:
        error = self._websocket.handshake_exc
        if isinstance(error, InvalidStatus):
            response = error.response
            after = response.headers.get_all("Retry-After")
            seconds = float(after[0]) if after and after[0].isascii() and after[0].isdigit() else None
            self._owner.refused(response.status_code, seconds, response.reason_phrase)
        elif isinstance(error, InvalidMessage) and exc is not None:
            self._owner.refused(None, None, describe(exc))
        else:
            self._owner.refused(None, None, describe(error or exc))


def describe(error: BaseException | None) -> str:
    """Return why a connection failed or ended, for people."""
    if error is None:
        return "the connection ended"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
