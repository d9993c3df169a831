"""The model of the server behind a real socket, for what a real server cannot be made to do at a chosen moment."""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol

from tests.clients.model import Server, Session
from tests.e2e.server import clock


class Peer(WebSocketServerProtocol):
    """One connection of a client."""

    def onOpen(self) -> None:
        self.session: Session = self.factory.node.model.connect()
        self.factory.node.peers.append(self)
        self.flush()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        message = json.loads(payload)
        node = self.factory.node
        node.received.append(message)
        if message["type"] not in node.mute:
            node.model.handle(self.session, message)
        self.flush()

    def flush(self) -> None:
        while self.session.out:
            self.sendMessage(self.session.out.popleft().encode())

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self in self.factory.node.peers:
            self.factory.node.peers.remove(self)
            self.factory.node.closes.append(code)


class Node:
    """Listens on a free port of 127.0.0.1. Messages of a type in `mute` are received and not handled."""

    def __init__(self) -> None:
        self.model = Server(lambda name, data: None)
        self.peers: list[Peer] = []
        self.received: list[dict[str, Any]] = []
        self.closes: list[int | None] = []
        self.mute: set[str] = set()
        factory = WebSocketServerFactory(protocols=["nexus.v1.json"], reactor=clock)
        factory.protocol = Peer
        factory.node = self
        factory.noisy = False
        self._listening = clock.listenTCP(0, factory, interface="127.0.0.1")
        self.http = f"http://127.0.0.1:{self._listening.getHost().port}"

    def cut(self) -> None:
        """Break all connections."""
        for peer in list(self.peers):
            peer.transport.abortConnection()

    async def stop(self) -> None:
        self.cut()
        await self._listening.stopListening()
