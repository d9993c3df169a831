"""One client connection: non-blocking, opened in steps, over TCP or TLS."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from bench import wire
from bench.errors import Inexact

READ: Final = 65536  # bytes for one read; from 128 kB on the C library would map and unmap memory for each call

decode: Final = msgspec.json.Decoder().decode


def _insecure() -> ssl.SSLContext:
    # The certificate was made for this run; checking the name would not change the handshake's cost.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


TLS: Final = _insecure()


Message = dict[str, Any] | list[Any]
# The first messages on a new connection, each with the type of its answer; None if the server sends the first one.
Hello = Sequence[tuple[Message | None, str | int]]


@dataclass(frozen=True)
class Address:
    """The address of a server."""

    port: int
    tls: bool


@dataclass(frozen=True)
class Handshake:
    """The steps that make a session of a connection: the upgrade, and the first messages."""

    path: str
    subprotocol: str
    greeting: Hello


class Link:
    """A WebSocket; `receive` returns bytes of frames, `frames` splits them and answers pings."""

    def __init__(self, address: Address, handshake: Handshake) -> None:
        self._address = address
        self._handshake = handshake
        self._socket: socket.socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self._socket.fileno()
        self.rest = b""  # of an incomplete frame
        self.unsent = b""
        self.answer: Any = None  # to the last message of the hello
        self.read: Callable[[int], bytes] = self._socket.recv

    def open(self, hello: Hello) -> Iterator[int]:
        """Connect, upgrade, send the handshake's greetings and then the hello.

        A generator of the poll events that it waits for.
        """
        error = self._socket.connect_ex(("127.0.0.1", self._address.port))
        if error:
            yield select.EPOLLOUT
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise Inexact(f"cannot connect: error {error}")
        if self._address.tls:
            yield from self._secure()
        upgrade = wire.Upgrade(f"127.0.0.1:{self._address.port}", self._handshake.path, self._handshake.subprotocol)
        self.send(upgrade.request)
        head = b""
        while b"\r\n\r\n" not in head:
            yield select.EPOLLIN
            head += self.receive()
        head, _, early = head.partition(b"\r\n\r\n")
        upgrade.check(head)
        for message, answer in (*self._handshake.greeting, *hello):
            if message is not None:
                self.say(message)
            yield from self._await(answer, early)
            early = b""

    def _secure(self) -> Iterator[int]:
        secure = TLS.wrap_socket(self._socket, do_handshake_on_connect=False)
        self._socket = secure
        while True:
            try:
                secure.do_handshake()
                break
            except ssl.SSLWantReadError:
                yield select.EPOLLIN
            except ssl.SSLWantWriteError:
                yield select.EPOLLOUT

        def read(size: int) -> bytes:
            # One call returns one record. A poll does not report data that OpenSSL has already read from the socket.
            try:
                data = secure.recv(size)
                while secure.pending():
                    data += secure.recv(size)
            except ssl.SSLWantReadError:
                raise BlockingIOError from None
            return data

        self.read = read

    def _await(self, kind: str | int, data: bytes) -> Iterator[int]:
        found = self.frames(data)
        while not found:
            yield select.EPOLLIN
            found = self.frames(self.receive())
        self.answer = decode(found[0])
        if len(found) > 1 or _kind(self.answer) != kind:
            raise Inexact(f"expected {kind} and nothing else, got {found[:3]!r}")

    def send(self, data: bytes) -> None:
        """Send bytes, or keep those that the kernel does not accept until `flush`."""
        self.unsent += data
        self.flush()

    def flush(self) -> None:
        while self.unsent:
            try:
                sent = self._socket.send(self.unsent)
            except (BlockingIOError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                raise Inexact(f"the connection was lost: {error}") from None
            self.unsent = self.unsent[sent:]

    def say(self, message: Message) -> None:
        self.send(wire.masked(wire.FIN | wire.TEXT, msgspec.json.encode(message)))

    def receive(self) -> bytes:
        """Return the received bytes, at most `READ` at once; empty if there are none despite the poll."""
        try:
            data = self.read(READ)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise Inexact(f"the connection was lost: {error}") from None
        if not data:
            raise Inexact("the server closed a connection")
        return data

    def frames(self, data: bytes) -> list[bytes]:
        """Return the text messages that `data` completes, without the server's heartbeat and without its notices that nothing
        is missing."""
        data = self.rest + data
        found, used = wire.cut(data)
        self.rest = data[used:]
        texts = []
        for opcode, payload in found:
            if opcode == wire.TEXT:
                if payload != b'{"type":"ping"}' and not _is_well(payload):
                    texts.append(payload)
            elif opcode == wire.PING:
                self.send(wire.masked(wire.FIN | wire.PONG, payload))
            elif opcode == wire.CLOSE:
                raise Inexact(f"the server closes: {payload!r}")
        return texts

    def close(self) -> None:
        self._socket.close()


def _is_well(payload: bytes) -> bool:
    return payload.startswith(b'{"type":"continuity"') and decode(payload)["recovered"] is True


def _kind(message: Message) -> object:
    return message.get("type") if isinstance(message, dict) else message[0]
