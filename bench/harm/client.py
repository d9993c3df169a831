"""A connection of a hostile client: counts the bytes that it sends, and tolerates refusals."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from bench import wire
from bench.dialects import PATH
from bench.harm.roles import token
from bench.link import TLS, Address

EVENTS: Final = "/api/v1/events"
PIECE: Final = 65536
PATIENCE: Final = 5.0  # s for an answer
SERIALIZERS: Final = ("json", "msgpack", "cbor")  # of RawSocket, by number from 1 on
MESSAGE, PING, PONG = range(3)  # kinds of RawSocket frames
HEAD: Final = 4  # bytes before the payload of a RawSocket frame
ROLES: Final[dict[str, Any]] = {"roles": {"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}}}


class Tally:
    """The bytes sent by all hostile clients of a run; no client sends after its end."""

    def __init__(self) -> None:
        self.sent = 0
        self.end = float("inf")

    @property
    def late(self) -> bool:
        return time.monotonic() > self.end


class Client:
    """Sends bytes as fast as the server accepts them. Meanwhile it discards received bytes; an attentive client keeps them for
    `messages` and `until`, a deaf one does not read."""

    def __init__(self, address: Address, tally: Tally, deaf: bool = False, attentive: bool = False) -> None:
        self.closed = False
        self.encode: Callable[[object], bytes] = msgspec.json.encode
        self.decode: Callable[[bytes], Any] = msgspec.json.decode
        self.framed = False  # whether the server sends WebSocket frames
        self._attentive = attentive
        self._tally = tally
        self._deaf = deaf
        self._socket = socket.create_connection(("127.0.0.1", address.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tls:
            self._socket = TLS.wrap_socket(self._socket)
        self._socket.setblocking(False)
        self._rest = b""

    def send(self, data: bytes) -> bool:
        """Send all bytes. Return False if the server has closed, or the time is over."""
        left = memoryview(data)
        while left:
            if self.closed or self._tally.late:
                return False
            readable, writable, _ = select.select([] if self._deaf else [self._socket], [self._socket], [], 0.05)
            if readable:
                self._take()
            if writable and not self.closed:
                try:
                    count = self._socket.send(left[:PIECE])
                except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                    time.sleep(0.01)
                    continue
                except OSError:
                    self.closed = True
                    return False
                self._tally.sent += count
                left = left[count:]
        return True

    def text(self, data: bytes) -> bool:
        """Send a text message."""
        return self.send(wire.masked(wire.FIN | wire.TEXT, data))

    def cut(self) -> list[bytes]:
        """Return the complete messages in the bytes read so far, and answer heartbeats."""
        frames, used = wire.cut(self._rest)
        self._rest = self._rest[used:]
        for opcode, payload in frames:
            if opcode == wire.PING:
                self.send(wire.masked(wire.FIN | wire.PONG, payload))
        return [payload for opcode, payload in frames if opcode == wire.TEXT]

    def say(self, message: object) -> bool:
        """Send a message of either protocol, in its encoding."""
        return self.text(self.encode(message))

    def heed(self, seconds: float) -> None:
        """Read for this time."""
        end = time.monotonic() + seconds
        while not self.closed and (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                self._take()

    def messages(self, seconds: float = PATIENCE) -> list[Any]:
        """Return the next messages, and answer heartbeats; empty if there are none within this time."""
        end = time.monotonic() + seconds
        found: list[Any] = []
        while True:
            found += map(self.decode, self.cut())
            if found or self.closed or (left := end - time.monotonic()) <= 0:
                break
            if select.select([self._socket], [], [], left)[0]:
                self._rest += self._read()
        return found

    def ask(self, message: object) -> Any:
        """Send a message and return the next one; None if there is none."""
        self.say(message)
        return next(iter(self.messages()), None)

    def until(self, mark: bytes) -> bytes:
        """Return the bytes up to this mark, or all bytes if it does not arrive."""
        read = self._rest
        end = time.monotonic() + PATIENCE
        while mark not in read and not self.closed and time.monotonic() < end:
            if select.select([self._socket], [], [], 0.05)[0]:
                read += self._read()
        before, found, self._rest = read.partition(mark)
        return before + found

    def close(self) -> None:
        self.closed = True
        self._socket.close()

    def _take(self) -> None:
        """Read and discard bytes. Only complete frames are discarded, so that reading can continue at a frame's start."""
        came = self._read()
        if self._attentive or self.framed:
            self._rest += came
        if self.framed and not self._attentive:
            self.cut()

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(PIECE)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except OSError:
            data = b""
        if not data:
            self.closed = True
        return data


class RawSocket(Client):
    """A client over RawSocket, in one of the serializers of `SERIALIZERS`."""

    def text(self, data: bytes) -> bool:
        return self.frame(MESSAGE, data)

    def frame(self, kind: int, data: bytes) -> bool:
        return self.send(bytes((kind,)) + len(data).to_bytes(3) + data)

    def cut(self) -> list[bytes]:
        found = []
        while len(self._rest) >= HEAD and len(self._rest) >= (end := HEAD + int.from_bytes(self._rest[1:HEAD])):
            kind, payload, self._rest = self._rest[0], self._rest[HEAD:end], self._rest[end:]
            if kind == PING:
                self.frame(PONG, payload)
            elif kind == MESSAGE:
                found.append(payload)
        return found

    def greet(self, serializer: str) -> None:
        """Do the handshake, for messages of up to 16 MiB."""
        number = SERIALIZERS.index(serializer) + 1
        self.send(bytes((0x7F, 0xF0 | number, 0, 0)))
        self.until(bytes((0, 0)))
        if serializer == "msgpack":
            self.encode, self.decode = msgspec.msgpack.encode, msgspec.msgpack.decode
        self.framed = True

    def join(self, subject: str, realm: str = "nexus") -> None:
        """Join the realm with a ticket."""
        self.ask([1, realm, {**ROLES, "authmethods": ["ticket"], "authid": subject}])
        self.ask([5, token(subject), {}])


def open_json(client: Client, subject: str, extensions: str = "") -> Client:
    """Connect as this subject, up to `connected`."""
    return _upgraded(client, f"{EVENTS}?token={token(subject)}", "", client.messages, extensions)


def open_wamp(client: Client, subject: str, realm: str = "nexus") -> Client:
    """Join as this subject, in JSON."""
    return _upgraded(client, f"{PATH}?token={token(subject)}", "wamp.2.json", lambda: client.ask([1, realm, ROLES]))


def open_door(client: Client, subprotocol: str) -> Client:
    """Upgrade without a token, so that the caller can send its own HELLO."""
    return _upgraded(client, PATH, subprotocol, lambda: None)


def _upgraded(client: Client, path: str, subprotocol: str, greet: Callable[[], object], extensions: str = "") -> Client:
    client.send(wire.Upgrade("127.0.0.1", path, subprotocol, extensions).request)
    client.until(b"\r\n\r\n")
    client.framed = True
    greet()
    return client
