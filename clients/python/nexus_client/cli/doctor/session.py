"""A WebSocket to look through: what its handshake was answered, and each message."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from nexus_client.address import parse_address
from nexus_client.cli.doctor.wire import PATIENCE, Place

JSON: Final = "nexus.v1.json"
BEARER: Final = "nexus.bearer."
READ: Final = 65_536
_SILENT: Final = logging.Logger("nexus_client.doctor", logging.CRITICAL + 1)  # noqa: LOG001 - no configuration may show the token


class Refused(Exception):
    """The handshake was not answered as it should be: by another `status` than 101, or by a 101 with a `flaw`."""

    def __init__(self, status: int | None, headers: dict[str, str], body: str, flaw: str) -> None:
        super().__init__(flaw or f"HTTP {status}")
        self.status = status
        self.headers = headers
        self.body = body
        self.flaw = flaw

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document of Nexus; empty if a proxy has answered."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) and "code" in found else {}


class Ended(Exception):
    """The connection has ended: with a close code, or without a close frame (None)."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}".rstrip() if code is not None else "ended without a close frame")
        self.code = code
        self.reason = reason


class Session:
    """An open WebSocket. Pings are answered as they are read, unless it is `mute`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: ClientProtocol) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = protocol
        self._frames: list[Frame] = []
        self._parts: list[bytes] = []
        self.mute = False
        self.headers: dict[str, str] = {}

    @property
    def subprotocol(self) -> str | None:
        return self._protocol.subprotocol

    async def send(self, message: dict[str, Any]) -> None:
        self._protocol.send_text(json.dumps(message, separators=(",", ":")).encode())
        await self._flush()

    async def ping(self) -> None:
        """Send a ping of RFC 6455 section 5.5.2."""
        self._protocol.send_ping(b"nexus-doctor")
        await self._flush()

    async def receive(self) -> dict[str, Any]:
        """Return the next message; a pong as one of type `control`. Raise `Ended` at the end of the connection."""
        while True:
            while self._frames:
                message = self._take(self._frames.pop(0))
                if message is not None:
                    return message
            await self._read()

    async def reply(self, kind: str) -> dict[str, Any]:
        """Return the next message of this type. Raise `Ended`, or `TimeoutError` if it does not come."""
        async with asyncio.timeout(PATIENCE):
            while (message := await self.receive()).get("type") != kind:
                pass
        return message

    async def open(self) -> None:
        """Perform the opening handshake. Raise `Refused`, `OSError` or `TimeoutError`."""
        async with asyncio.timeout(PATIENCE):
            await self._flush()
            while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
                data = await self._reader.read(READ)
                if data:
                    self._protocol.receive_data(data)
                else:
                    self._protocol.receive_eof()
                self._collect()
                if not data:
                    break
        error = self._protocol.handshake_exc
        if isinstance(error, InvalidStatus):
            body = (error.response.body or b"").decode("utf-8", "replace")
            raise Refused(error.response.status_code, self.headers, body, "")
        if error is not None or self._protocol.state is State.CONNECTING:
            raise Refused(None, self.headers, "", str(error) if error is not None else "the connection was closed")

    async def _read(self) -> None:
        try:
            data = await self._reader.read(READ)
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._collect()
        if not self.mute:
            await self._flush()
        if not data and not self._frames:
            close = self._protocol.close_rcvd
            raise Ended(None, "") if close is None else Ended(close.code, close.reason)

    def _collect(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._frames.append(event)
            elif isinstance(event, Response):
                self.headers = {name.lower(): value for name, value in event.headers.raw_items()}

    def _take(self, frame: Frame) -> dict[str, Any] | None:
        """Return the message that a frame completes, if any."""
        if frame.opcode is Opcode.PONG:
            return {"type": "control"}
        if frame.opcode is Opcode.CLOSE:
            close = self._protocol.close_rcvd
            raise Ended(close.code, close.reason) if close is not None else Ended(None, "")
        if frame.opcode not in (Opcode.TEXT, Opcode.CONT):
            return None
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return None
        text = b"".join(self._parts)
        self._parts.clear()
        try:
            message = json.loads(text)
        except ValueError:
            message = None
        return message if isinstance(message, dict) else {"type": "unknown"}

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data and not self._writer.is_closing():
                self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError:
            raise Ended(None, "") from None


@asynccontextmanager
async def opened(
    place: Place, token: str | None, origin: str | None = None, in_subprotocol: bool = False
) -> AsyncIterator[Session]:
    """Give an open session. Raise `Refused`, or `OSError` or `TimeoutError` if there is no answer.

    The token goes into `Authorization`, or into a subprotocol as in browsers.
    """
    offered = [Subprotocol(JSON)]
    if token is not None and in_subprotocol:
        offered.append(Subprotocol(BEARER + token))
    protocol = ClientProtocol(
        parse_uri(parse_address(place.target.websocket).url),
        origin=Origin(origin) if origin is not None else None,
        subprotocols=offered,
        max_size=None,
        logger=_SILENT,
    )
    request = protocol.connect()
    request.headers["User-Agent"] = "nexus-doctor"
    if token is not None and not in_subprotocol:
        request.headers["Authorization"] = f"Bearer {token}"
    protocol.send_request(request)
    async with place.dial(place.tls) as (reader, writer):
        session = Session(reader, writer, protocol)
        try:
            await session.open()
        except Ended:
            raise Refused(None, {}, "", "the connection was closed") from None
        yield session
