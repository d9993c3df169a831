"""`python -m bench.peers.autobahn_server PORT [CERTIFICATE KEY]`: Autobahn as in its examples, with `sendMessage` to each."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor as installed
from twisted.internet.endpoints import serverFromString

from bench.peers.protocol import Client, Protocol

reactor: Any = installed


def broadcast(connections: Collection[Any], text: str) -> None:
    payload = text.encode()
    for connection in connections:
        connection.sendMessage(payload)


class Connection(WebSocketServerProtocol):  # type: ignore[misc]  # Autobahn has no types
    protocol = Protocol(broadcast)
    client: Client | None = None

    def onOpen(self) -> None:
        self.client = Client(self, lambda text: self.sendMessage(text.encode()))
        self.protocol.joined(self.client)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        assert self.client is not None
        self.protocol.received(self.client, payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self.client is not None:
            self.protocol.left(self.client)


def main(port: str, certificate: str = "", key: str = "") -> None:
    factory = WebSocketServerFactory()
    factory.protocol = Connection
    factory.setProtocolOptions(tcpNoDelay=True)
    where = f"ssl:{port}:certKey={certificate}:privateKey={key}" if certificate else f"tcp:{port}"
    serverFromString(reactor, f"{where}:backlog=4096:interface=127.0.0.1").listen(factory)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
