"""The environment of a row: the server and the hostile clients of one run."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final

from bench.harm.client import Client, RawSocket, Tally, open_door, open_json, open_wamp
from bench.harm.node import Node
from bench.link import Address

LONGEST: Final = 15.0  # s in which a row sends


class Stage:
    """Makes hostile clients and counts the bytes that they send; a context manager that closes them all."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.tally = Tally()
        self.sent = 0
        self.hurt: list[str] = []  # harm to well-behaved participants of the row
        self._clients: list[Client] = []

    def __enter__(self) -> Stage:
        self.tally.end = time.monotonic() + LONGEST
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sent = self.tally.sent
        for client in self._clients:
            client.close()

    @property
    def late(self) -> bool:
        return self.tally.late

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.node.address.port}"

    def raw(self, address: Address | None = None, deaf: bool = False, attentive: bool = False) -> Client:
        """Return a connection on which nothing has been sent."""
        client = Client(address or self.node.address, self.tally, deaf, attentive)
        self._clients.append(client)
        return client

    def rawsocket(self, serializer: str = "json", deaf: bool = False, attentive: bool = False) -> RawSocket:
        """Return a client of RawSocket after its handshake."""
        client = RawSocket(self.node.address, self.tally, deaf, attentive)
        self._clients.append(client)
        client.greet(serializer)
        return client

    def joined(self, subject: str, serializer: str = "json", deaf: bool = False, attentive: bool = False) -> RawSocket:
        client = self.rawsocket(serializer, deaf, attentive)
        client.join(subject)
        return client

    def expect(self, true: bool, otherwise: str) -> None:
        """Check a condition for a well-behaved client; `otherwise` describes the harm if it is false."""
        if not true:
            self.hurt.append(otherwise)

    def json(self, subject: str, deaf: bool = False, attentive: bool = False, extensions: str = "") -> Client:
        return open_json(self.raw(deaf=deaf, attentive=attentive), subject, extensions)

    def wamp(self, subject: str, deaf: bool = False, attentive: bool = False) -> Client:
        return open_wamp(self.raw(deaf=deaf, attentive=attentive), subject)

    def door(self, subprotocol: str) -> Client:
        return open_door(self.raw(), subprotocol)
