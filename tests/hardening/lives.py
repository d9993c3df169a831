"""Clients on plain sockets in their own thread, so that none of their objects can be mistaken for the server's."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import cbor2
import msgspec

from tests.client import BINARY, CLOSE, TEXT, frame, handshake

PATIENCE = 20.0  # s
ENCODINGS: Final[dict[str, tuple[Callable[[Any], bytes], Callable[[bytes], Any]]]] = {
    "json": (lambda message: json.dumps(message).encode(), json.loads),
    "msgpack": (msgspec.msgpack.encode, msgspec.msgpack.decode),
    "cbor": (cbor2.dumps, cbor2.loads),
}
SERIALIZERS = ("json", "msgpack", "cbor")  # of RawSocket, by number from 1 on
TROUBLE = ("error", 3, 8)  # what is not passed over: an error, ABORT and ERROR


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


TRUSTING = _trusting()  # made before any connection, whose handshake has little time


class Visitor:
    """One connection."""

    def __init__(self, port: int, secure: bool = False) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        if secure:
            self.socket = TRUSTING.wrap_socket(self.socket)
        self._read = b""
        self._request = 0

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more()
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def until(self, mark: bytes) -> bytes:
        while mark not in self._read:
            self._more()
        return self.exactly(self._read.index(mark) + len(mark))

    def rest(self) -> None:
        """Read to the end."""
        try:
            while self.socket.recv(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """End the connection like a crash."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def _more(self) -> None:
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionError(f"ended after {self._read!r}")
        self._read += received


class WebSocket(Visitor):
    """Exchanges messages in an encoding: JSON, or that of its subprotocol."""

    encoding = "json"

    def __init__(self, port: int, token: str | None = None, protocol: str | None = None, secure: bool = False) -> None:
        super().__init__(port, secure)
        self.encoding = "json" if protocol is None else protocol.rpartition(".")[2]
        self.send(handshake(token=token, protocols=() if protocol is None else (protocol,)))
        assert self.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")

    def say(self, message: Any) -> None:
        self.send(frame(TEXT if self.encoding == "json" else BINARY, ENCODINGS[self.encoding][0](message)))

    def hear(self, kind: Any) -> Any:
        """Return the next message of this kind, skipping others."""
        while True:
            first, second = self.exactly(2)
            size = second
            if size >= 126:
                size = int.from_bytes(self.exactly(2 if size == 126 else 8), "big")
            payload = self.exactly(size)
            if first & 0x0F in (TEXT, BINARY):
                message = ENCODINGS[self.encoding][1](payload)
                heard = message[0] if isinstance(message, list) else message["type"]
                if heard == kind:
                    return message
                assert heard not in TROUBLE, message

    def leave(self) -> None:
        self.send(frame(CLOSE, b"\x03\xe8"))
        self.rest()
        self.close()


class RawSocket(Visitor):
    """WAMP over RawSocket, in one of its serializers."""

    def __init__(self, port: int, secure: bool = False, encoding: str = "json") -> None:
        super().__init__(port, secure)
        self.encode, self.decode = ENCODINGS[encoding]
        number = SERIALIZERS.index(encoding) + 1
        self.send(bytes((0x7F, 0xF0 | number, 0, 0)))
        assert self.exactly(4)[1] & 0x0F == number

    def say(self, message: Any) -> None:
        payload = self.encode(message)
        self.send(len(payload).to_bytes(4, "big") + payload)

    def hear(self, kind: int) -> Any:
        while True:
            head = self.exactly(4)
            payload = self.exactly(int.from_bytes(head[1:], "big"))
            if head[0] == 0:
                message = self.decode(payload)
                if message[0] == kind:
                    return message
                assert message[0] not in TROUBLE, message

    def leave(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)
        self.rest()
        self.close()
