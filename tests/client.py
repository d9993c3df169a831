"""A client for tests: raw bytes, HTTP responses and WebSocket frames, with strict checks of everything the server sends."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

EVENTS = "/api/v1/events"
PATIENCE = 10.0  # s for anything that a test waits for, on a busy machine

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x11\x9a\x5c\xf3"

clock: Any = reactor


class Ended(Exception):
    """The server closed the connection; with the close code and reason if it sent them."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason!r}")
        self.code = code
        self.reason = reason


class Response(NamedTuple):
    """An HTTP response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire(Protocol):
    """A connection as bytes: writes them, and waits for received ones."""

    transport: Any

    def __init__(self) -> None:
        self.data = b""
        self.over = False
        self.reset = False  # whether it ended by a reset
        self._waiting: Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over = True
        self.reset = not reason.check(ConnectionDone)
        self._wake()

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def drop(self) -> None:
        """Abort the connection with a reset."""
        if not self.over:
            self.transport.abortConnection()

    async def until(self, mark: bytes) -> bytes:
        """Return the received bytes up to and including the mark. Raise `Ended` if the connection ends before."""
        while (place := self.data.find(mark)) < 0:
            await self._more()
        return self._take(place + len(mark))

    async def exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            await self._more()
        return self._take(size)

    async def rest(self) -> bytes:
        """Return all bytes until the server closes."""
        while not self.over:
            await self._more()
        return self._take(len(self.data))

    async def response(self, method: str = "GET") -> Response:
        """Return the next HTTP response, to a request with that method."""
        head = (await self.until(b"\r\n\r\n")).decode("ascii")
        line, *fields = head.split("\r\n")[:-2]
        version, status, _ = line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for field in fields:
            name, _, value = field.partition(": ")
            assert name.lower() not in headers, f"{name} is there twice"
            headers[name.lower()] = value
        bodiless = method == "HEAD" or status in ("101", "204")
        body = b"" if bodiless else await self.exactly(int(headers["content-length"]))
        return Response(int(status), headers, body)

    async def _more(self) -> None:
        if self.over:
            raise Ended(1006, "")
        self._waiting = Deferred()
        self._waiting.addTimeout(PATIENCE, clock)
        await self._waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _take(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        return taken


class Frame(NamedTuple):
    fin: bool
    opcode: int
    payload: bytes


class Client:
    """A WebSocket over a wire, after its handshake. It answers pings during every read."""

    def __init__(self, wire: Wire, response: Response) -> None:
        self.wire = wire
        self.response = response
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.welcome: dict[str, Any] = {}
        self._later: list[dict[str, Any]] = []
        self._number = 0

    @property
    def client_id(self) -> str:
        return str(self.welcome["clientId"])

    # --- out

    def send(self, **message: Any) -> None:
        self.send_text(json.dumps(message))

    def send_text(self, text: str | bytes) -> None:
        self.write(frame(TEXT, text.encode() if isinstance(text, str) else text))

    def write(self, data: bytes) -> None:
        self.wire.write(data)

    def leave(self, code: int = 1000) -> None:
        """Send a close frame."""
        self.write(frame(CLOSE, code.to_bytes(2, "big")))

    def drop(self) -> None:
        self.wire.drop()

    # --- in

    async def frame(self) -> Frame:
        first, second = await self.wire.exactly(2)
        assert not first & 0x70, "a reserved bit is set: nothing was negotiated that has one"
        assert not second & 0x80, "a server does not mask"
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(await self.wire.exactly(2), "big")
            assert size >= 126
        elif size == 127:
            size = int.from_bytes(await self.wire.exactly(8), "big")
            assert size >= 65536
        return Frame(first >= 0x80, first & 0x0F, await self.wire.exactly(size))

    async def message(self) -> bytes:
        """Return the payload of the next text or binary frame. Answer a close, and raise `Ended`."""
        while True:
            received = await self.frame()
            assert received.fin
            if received.opcode == PING:
                self.pings.append(received.payload)
                self.write(frame(PONG, received.payload))
            elif received.opcode == PONG:
                self.pongs.append(received.payload)
            elif received.opcode == CLOSE:
                self.write(frame(CLOSE, received.payload[:2]))
                code = int.from_bytes(received.payload[:2], "big") if received.payload else 1005
                raise Ended(code, received.payload[2:].decode())
            else:
                return received.payload

    async def receive(self) -> dict[str, Any]:
        """Return the next message, without heartbeats of the server."""
        if self._later:
            return self._later.pop(0)
        while True:
            message: dict[str, Any] = json.loads(await self.message())
            if message != {"type": "ping"}:
                return message

    async def expect(self, type: str, **members: Any) -> dict[str, Any]:
        """Return the next message; it must have this type and these members."""
        message = await self.receive()
        assert message["type"] == type, message
        assert {name: message.get(name) for name in members} == members, message
        return message

    async def ask(self, **message: Any) -> dict[str, Any]:
        """Send a message with an `id` and return its reply; messages before the reply are left for `receive`."""
        self._number += 1
        number = f"ask-{self._number}"
        self.send(**message, id=number)
        others, self._later = self._later, []
        while (reply := await self.receive()).get("id") != number:
            others.append(reply)
        self._later = others
        return reply

    async def heard(self) -> list[dict[str, Any]]:
        """Return all messages that arrive before the answer to a ping sent now."""
        pong = await self.ask(type="ping")
        assert pong["type"] == "pong"
        heard, self._later = self._later, []
        return heard

    async def subscribe(self, *events: str, **members: Any) -> None:
        reply = await self.ask(type="subscribe", events=list(events), **members)
        assert reply["type"] == "subscribed", reply

    async def closed(self) -> tuple[int, str]:
        """Read until the end. Return the close code and reason; the messages before it are in `left`."""
        self.left = list(self._later)
        try:
            while True:
                self.left.append(json.loads(await self.message()))
        except Ended as ended:
            await self.wire.rest()
            return ended.code, ended.reason

    left: list[dict[str, Any]]


def frame(opcode: int, payload: bytes = b"", fin: bool = True, mask: bytes | None = MASK) -> bytes:
    """Return a client's frame; without a mask it is an invalid one."""
    size = len(payload)
    bit = 0 if mask is None else 0x80
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def handshake(
    target: str = EVENTS,
    token: str | None = None,
    protocols: Sequence[str] = (),
    headers: Iterable[str] = (),
    drop: Iterable[str] = (),
) -> bytes:
    """Return an opening handshake; `headers` are further lines, `drop` the names of usual ones to leave out."""
    key = base64.b64encode(os.urandom(16)).decode()
    usual = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
    }
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in usual.items() if name not in drop)]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if protocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(protocols)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1")


async def dial(endpoint: IStreamClientEndpoint) -> Wire:
    connected: Deferred[Wire] = connectProtocol(endpoint, Wire())
    connected.addTimeout(PATIENCE, clock)
    return await connected


async def greeted(wire: Wire) -> Client:
    """Return the client on a wire whose handshake was sent, after `connected`."""
    client = Client(wire, await wire.response())
    assert client.response.status == 101, client.response
    client.welcome = await client.expect("connected")
    return client


def request(method: str, target: str, token: str | None, body: bytes | None = None, headers: Iterable[str] = ()) -> bytes:
    """Return an HTTP request; the token, if there is one, is in the query."""
    if token is not None:
        target += ("&" if "?" in target else "?") + f"token={quote(token)}"
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + (body or b"")
