"""A JSON client that handles each message as it arrives: for thousands of them a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.client import CLOSE, PATIENCE, PING, PONG, TEXT, clock, frame, handshake

Message = dict[str, Any]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Line(Protocol):
    """One WebSocket. `arrived` gets each message after `connected`; `ended` is called when the connection is lost."""

    transport: Any

    def __init__(self, token: str, arrived: Callable[[Message], None], ended: Callable[[], None]) -> None:
        self._token = token
        self._arrived = arrived
        self._ended = ended
        self._data = b""
        self._upgraded = False
        self.opened: Deferred[None] = Deferred()
        self.over = False
        self.heard = clock.seconds()  # when anything arrived last

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.write(handshake(token=self._token))

    def dataReceived(self, data: bytes) -> None:
        self.heard = clock.seconds()
        data = self._data + data
        place = 0
        if not self._upgraded:
            place = data.find(b"\r\n\r\n") + 4
            if place < 4:
                self._data = data
                return
            assert data.startswith(b"HTTP/1.1 101 "), data[:place]
            self._upgraded = True
        while len(data) - place >= 2:
            first, size, start = data[place], data[place + 1], place + 2
            assert first & 0xF0 == 0x80, "a whole frame without reserved bits"
            if size >= 126:
                start += 2 if size == 126 else 8
                if len(data) < start:
                    break
                size = int.from_bytes(data[place + 2 : start], "big")
            if len(data) < start + size:
                break
            self._frame(first & 0x0F, data[start : start + size])
            place = start + size
        self._data = data[place:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            message = _decode(payload)
            if message["type"] == "connected":
                self.opened.callback(None)
            elif message["type"] != "ping" and not self.over:
                self._arrived(message)
        elif opcode == PING:
            self.transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            self.transport.write(frame(CLOSE, payload[:2]))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.opened.called:
            self.opened.errback(ConnectionError("refused"))
        if not self.over:
            self.over = True
            self._ended()

    def send(self, message: Message) -> None:
        self.transport.write(frame(TEXT, _encode(message)))

    def drop(self) -> None:
        """Ends the connection at once, without a word, and hears nothing of what is still on its way."""
        if not self.over:
            self.over = True
            self.transport.abortConnection()


async def connected(
    way: int | IStreamClientEndpoint,
    token: str,
    arrived: Callable[[Message], None],
    ended: Callable[[], None],
    patience: float = PATIENCE,
) -> Line:
    """Returns an open connection to a node: to its port on this machine, or by another way."""
    endpoint = TCP4ClientEndpoint(clock, "127.0.0.1", way) if isinstance(way, int) else way
    line: Line = await connectProtocol(endpoint, Line(token, arrived, ended))
    try:
        await line.opened.addTimeout(patience, clock)
    except BaseException:
        line.drop()
        raise
    return line
