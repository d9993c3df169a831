"""A WebSocket server with one deliberate fault: `python -m tests.liar PORT LIE`, for tests of the tool that must detect it."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from bench.peers import autobahn_server
from bench.peers.autobahn_server import Connection, broadcast
from bench.peers.protocol import Client, Protocol

PLACE = 20  # which event the lie is about


class Liar(Protocol):
    """Correct except for one event to the last of its subscribers, or one answer."""

    def __init__(self, lie: str) -> None:
        super().__init__(self._send)
        self._lie = lie
        self._events = 0
        self._answers = 0
        self._kept: tuple[Any, str] | None = None

    def received(self, client: Client, text: str | bytes) -> None:
        if b'"telemetry"' in (text if isinstance(text, bytes) else text.encode()):
            self._answers += 1
            if self._answers == PLACE and self._lie == "no answer":
                return
            if self._answers == PLACE and self._lie == "two answers":
                super().received(client, text)
        super().received(client, text)

    def _send(self, connections: Collection[Any], text: str) -> None:
        self._events += 1
        *others, last = connections
        broadcast(others, text)
        if self._kept is not None:
            broadcast([last], text)
            broadcast([self._kept[0]], self._kept[1])
            self._kept = None
        elif self._events != PLACE or self._lie in ("no answer", "two answers"):
            broadcast([last], text)
        elif self._lie == "repeat":
            broadcast([last, last], text)
        elif self._lie == "change":
            broadcast([last], text.replace("running", "stopped"))
        elif self._lie == "reorder":
            self._kept = last, text
        elif self._lie == "misroute":
            broadcast([next(iter(self._subscribers["bench.filtered"])).connection], text)
        else:
            assert self._lie == "lose", self._lie


def main(port: str, lie: str) -> None:
    Connection.protocol = Liar(lie)
    autobahn_server.main(port)


if __name__ == "__main__":
    main(*sys.argv[1:])
