"""A connection from a client to a node, as both ends see it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final, Protocol

import msgspec

from nexus_tw.interfaces.sessions import Session
from nexus_tw.model.errors import SLOW_CONSUMER, Close
from nexus_tw.model.policy import Principal
from tests.protocols.link import texts
from tests.simulation.clock import Pipe, Time
from tests.simulation.nodes import Node

RETRY: Final = 0.3  # s until what the bus could not do is asked for again

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Owner(Protocol):
    """The client."""

    principal: Principal

    def received(self, connection: Connection, message: dict[str, Any]) -> None: ...

    def lost(self, connection: Connection, back: float) -> None:
        """The connection is over. `back` is when to come back, in seconds; 0: as the client likes."""


class Wire:
    """The node's end of a connection (`nexus_tw.interfaces.sessions.Link`)."""

    largest = 0

    def __init__(
        self, down: Pipe, limit: int, farewell: Callable[[Close], bytes | None], written: Callable[[bytes], None]
    ) -> None:
        self._down = down
        self._limit = limit
        self._farewell = farewell
        self._written = written
        self.waiting = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self._written(data)
            self.waiting += len(data)
            self._down.put(data)
            if self.waiting > self._limit:
                self.close(SLOW_CONSUMER)

    push = write

    def room(self, size: int) -> bool:
        return not self.waiting or self.waiting + size <= self._limit

    def affords(self, size: int) -> bool:
        return self.room(size)

    def count(self, messages: int) -> None:
        raise AssertionError("no message stands for others")

    def identified(self, principal: Principal) -> None:
        raise NotImplementedError

    def note(self, text: str) -> None:
        pass

    def probe(self, done: Callable[[], None]) -> None:
        done()

    def finish(self, close: Close) -> None:
        self.close(close)

    def close(self, close: Close) -> None:
        if not self.closed:
            self.closed = True
            self._down.put(self._farewell(close))
            self._down.put(None)


class Connection:
    """Until either end finds it broken. `ready` is for the client to use."""

    def __init__(
        self,
        time: Time,
        owner: Owner,
        node: Node,
        chance: Random,
        limit: int,
        delay: float,
        written: Callable[[bytes], None] = lambda _data: None,
    ) -> None:
        """`limit` is how many bytes may wait for the client; `written` hears what the node writes, when it does."""
        self.over = False
        self.node = node
        self.ready = False
        self._time = time
        self._owner = owner
        self._session: Session | None = None
        self._down = Pipe(time, Random(chance.getrandbits(64)), delay, self._came)
        self._up = Pipe(time, Random(chance.getrandbits(64)), delay, self._arrived)
        self.wire = Wire(self._down, limit, self._farewell, written)
        node.connections[self] = None
        self._up.put(None)

    def send(self, message: dict[str, Any]) -> None:
        self._up.put(_encode(message))

    def stall(self, seconds: float) -> None:
        """The client does not read for a while."""
        self._down.stall(seconds)

    def cut(self, notice: float) -> None:
        """Broken; the node finds that after so many seconds."""
        self.over = True
        self._up.cut()
        self._down.cut()
        self._time.at(self._time.now + notice, lambda: self.node.clock.do(self._ended))

    def die(self) -> None:
        """The node is dead."""
        self._up.cut()
        self._down.cut()
        self._owner.lost(self, 0.0)

    def _ended(self) -> None:
        self.wire.closed = True
        self.node.connections.pop(self, None)
        session, self._session = self._session, None
        if session is not None:
            session.end()

    def _farewell(self, close: Close) -> bytes | None:
        return self._session.farewell(close) if self._session is not None else None

    def _arrived(self, data: bytes | None) -> None:
        self.node.clock.do(partial(self._received, data))

    def _received(self, data: bytes | None) -> None:
        if self.wire.closed:
            return
        if data is None:
            self._session = self.node.session(self.wire, self._owner.principal)
            self._session.begin()
        elif self._session is not None:
            self._session.received(data, False)

    def _came(self, data: bytes | None) -> None:
        if data is None:
            self.cut(0.0)
            self._owner.lost(self, 0.0)
            return
        self.wire.waiting -= len(data)
        for text in texts(data):
            if not self.over:
                self._owner.received(self, _decode(text))
