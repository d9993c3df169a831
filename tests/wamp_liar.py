"""A WAMP router with one deliberate fault, or none: `python -m tests.wamp_liar PORT LIE`, for tests that must detect it.

It has one topic and one procedure; faults in events and invocations are those of `tests.liar`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Collection
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet import reactor as installed

from bench.dialects import SUBPROTOCOL, Type
from bench.peers.autobahn_server import Connection, broadcast
from bench.peers.protocol import Client
from tests.liar import PLACE, Liar

ABOUT_EVENTS = ("lose", "repeat", "reorder", "change")
SUBSCRIPTION = 5
REGISTRATION = 6

reactor: Any = installed


class Router(Liar):
    """Like `Liar`; or the answer to one publication or call is missing, is sent twice, or belongs to another request."""

    def __init__(self, lie: str) -> None:
        super().__init__(lie)
        self._listeners: list[Any] = []
        self._numbers = itertools.count(1)  # of publications and invocations
        self._calls: dict[int, tuple[Client, int]] = {}
        self._callee: Any = None

    def joined(self, client: Client) -> None:
        """Do nothing: in WAMP the client sends the first message."""

    def left(self, client: Client) -> None:
        if client.connection in self._listeners:
            self._listeners.remove(client.connection)

    def _send(self, connections: Collection[Any], text: str) -> None:
        if self._lie in ABOUT_EVENTS:
            super()._send(connections, text)
        else:
            broadcast(connections, text)

    def received(self, client: Client, text: str | bytes) -> None:
        match json.loads(text):
            case [Type.HELLO, str(), dict()]:
                self._say(client, [Type.WELCOME, 1, {"roles": {"broker": {}, "dealer": {}}}])
            case [Type.SUBSCRIBE, request, dict(), str()]:
                self._listeners.append(client.connection)
                self._say(client, [Type.SUBSCRIBED, request, SUBSCRIPTION])
            case [Type.REGISTER, request, dict(), str()]:
                self._callee = client.connection
                self._say(client, [Type.REGISTERED, request, REGISTRATION])
            case [Type.PUBLISH, request, {"acknowledge": True}, str(), arguments]:
                number = next(self._numbers)
                self._send(self._listeners, json.dumps([Type.EVENT, SUBSCRIPTION, number, {}, arguments]))
                self._answer(client, [Type.PUBLISHED, request, number])
            case [Type.CALL, request, dict(), str(), arguments]:
                number = next(self._numbers)
                self._calls[number] = client, request
                self._send([self._callee], json.dumps([Type.INVOCATION, number, REGISTRATION, {}, arguments]))
            case [Type.YIELD, number, dict(), arguments]:
                caller, request = self._calls.pop(number)
                self._answer(caller, [Type.RESULT, request, {}, arguments])
            case message:
                raise ValueError(f"not a message that is known here: {message}")

    def _answer(self, client: Client, message: list[Any]) -> None:
        self._answers += 1
        wrong = self._answers == PLACE
        if wrong and self._lie == "no answer":
            return
        if wrong and self._lie == "another's answer":
            message[1] += 1
        for _ in range(2 if wrong and self._lie == "two answers" else 1):
            self._say(client, message)

    def _say(self, client: Client, message: list[Any]) -> None:
        client.connection.sendMessage(json.dumps(message).encode())


class Session(Connection):
    def onConnect(self, request: Any) -> str:
        return SUBPROTOCOL


def main(port: str, lie: str) -> None:
    Session.protocol = Router(lie)
    factory = WebSocketServerFactory()
    factory.protocol = Session
    factory.setProtocolOptions(tcpNoDelay=True)
    reactor.listenTCP(int(port), factory, interface="127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
