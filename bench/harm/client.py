"""A connection of the hostile side: what it sends is counted, and it does not mind being refused."""

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
MESSAGE, PING, PONG = range(3)  # kinds of its frames
HEAD: Final = 4  # bytes before their payload
ROLES: Final[dict[str, Any]] = {"roles": {"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}}}


class Tally:
    """What all hostile clients of a run have sent, bytes; nobody sends past the end."""

    def __init__(self) -> None:
        self.sent = 0
        self.end = float("inf")

    @property
    def late(self) -> bool:
        return time.monotonic() > self.end


class Client:
    """Bytes out as fast as they are taken. What comes in meanwhile is thrown away; one who is attentive keeps it for
    `messages` and `until`, one who is deaf leaves it where it is."""

    def __init__(self, address: Address, tally: Tally, deaf: bool = False, attentive: bool = False) -> None:
        self.closed = False
        self.encode: Callable[[object], bytes] = msgspec.json.encode
        self.decode: Callable[[bytes], Any] = msgspec.json.decode
        self.framed = False  # whether what comes are frames of a WebSocket
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
        """Sends all of it; false where the server closed, or where the time is over."""
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
        """Sends a text message."""
        return self.send(wire.masked(wire.FIN | wire.TEXT, data))

    def cut(self) -> list[bytes]:
        """The messages that are whole among what was read and kept, with heartbeats answered."""
        frames, used = wire.cut(self._rest)
        self._rest = self._rest[used:]
        for opcode, payload in frames:
            if opcode == wire.PING:
                self.send(wire.masked(wire.FIN | wire.PONG, payload))
        return [payload for opcode, payload in frames if opcode == wire.TEXT]

    def say(self, message: object) -> bool:
        """Sends a message of either protocol, in its encoding."""
        return self.text(self.encode(message))

    def heed(self, seconds: float) -> None:
        """Takes what comes in this time."""
        end = time.monotonic() + seconds
        while not self.closed and (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                self._take()

    def messages(self, seconds: float = PATIENCE) -> list[Any]:
        """The next messages that come, with heartbeats answered; empty where none does in this time."""
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
        """The next message that comes after this one was sent; None where none does."""
        self.say(message)
        return next(iter(self.messages()), None)

    def until(self, mark: bytes) -> bytes:
        """What comes, up to this mark, or all there is where it does not come."""
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
        """Reads what nobody waits for. Of frames only whole ones are thrown away; the next is read from its beginning."""
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
    """The same over RawSocket, in one of the serializers of `SERIALIZERS`."""

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
        """Shakes hands for messages of up to 16 MiB."""
        number = SERIALIZERS.index(serializer) + 1
        self.send(bytes((0x7F, 0xF0 | number, 0, 0)))
        self.until(bytes((0, 0)))
        if serializer == "msgpack":
            self.encode, self.decode = msgspec.msgpack.encode, msgspec.msgpack.decode
        self.framed = True

    def join(self, subject: str, realm: str = "nexus") -> None:
        """Joins with a ticket."""
        self.ask([1, realm, {**ROLES, "authmethods": ["ticket"], "authid": subject}])
        self.ask([5, token(subject), {}])


def open_json(client: Client, subject: str, extensions: str = "") -> Client:
    """Has it welcomed as this subject."""
    return _upgraded(client, f"{EVENTS}?token={token(subject)}", "", client.messages, extensions)


def open_wamp(client: Client, subject: str, realm: str = "nexus") -> Client:
    """Has it join as this subject, in JSON."""
    return _upgraded(client, f"{PATH}?token={token(subject)}", "wamp.2.json", lambda: client.ask([1, realm, ROLES]))


def open_door(client: Client, subprotocol: str) -> Client:
    """Has it upgraded without a token, to say a HELLO of its own."""
    return _upgraded(client, PATH, subprotocol, lambda: None)


def _upgraded(client: Client, path: str, subprotocol: str, greet: Callable[[], object], extensions: str = "") -> Client:
    client.send(wire.Upgrade("127.0.0.1", path, subprotocol, extensions).request)
    client.until(b"\r\n\r\n")
    client.framed = True
    greet()
    return client
