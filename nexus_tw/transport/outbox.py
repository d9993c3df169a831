"""The outbox: all bytes of one connection leave through it.

It alone knows how bytes get to the socket, what waits, and when that is too much. Where nothing waits it sends at once
(`nexus_tw.net.direct`). Under TLS that goes for the records: bytes pass the record layer at once (Twisted would wait a turn for
more, but what a turn brings is together here), and what comes out of it is sent at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from twisted.internet.tcp import Connection as SocketTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol

from nexus_tw.model.errors import SLOW_CONSUMER, Close
from nexus_tw.model.policy import Principal
from nexus_tw.net.direct import is_socket, send
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.backlog import Backlog, Holder

DIRECT: Final = True  # send at once where nothing waits; the switch for measurements


class Owner(Protocol):
    """The connection that an outbox belongs to."""

    @property
    def account(self) -> str:
        """Under what is counted what it takes; empty for nobody's."""

    def charge(self, size: int) -> None: ...

    def identified(self, principal: Principal) -> None: ...

    def note(self, text: str) -> None: ...

    def probe(self, done: Callable[[], None]) -> None: ...

    def finish(self, close: Close) -> None: ...

    def close(self, close: Close) -> None: ...

    def overrun(self) -> None:
        """There is no room for what waits: close, and drop it."""


class Outbox:
    """The way to one client; provides `nexus_tw.interfaces.realm.Link` and `nexus_tw.transport.backlog.Outbox`."""

    __slots__ = (
        "_backlog",
        "_direct",
        "_open",
        "_owner",
        "_pack",
        "_parts",
        "_queued",
        "_secure",
        "_socket",
        "_transport",
        "_turn",
        "counted",
        "holder",
        "largest",
        "limit",
        "looks",
    )

    def __init__(
        self,
        transport: Any,
        turn: Turn,
        backlog: Backlog,
        limit: int,
        owner: Owner,
        pack: Callable[[bytes], bytes] | None = None,
        largest: int = 0,
        first: bytes = b"",
    ) -> None:
        """`limit` bounds the bytes that wait for a client that does not read; past it, `backlog` says when `owner` is closed.

        `pack` makes of frames what this client can be sent: compressed ones, or only those it has room for. `first` is what
        leaves before any frame.
        """
        self._transport = transport
        self._socket = cast(Any, transport.transport if isinstance(transport, ProtocolWrapper) else transport)
        self._direct = DIRECT and self._socket is transport and is_socket(transport)
        self._secure = DIRECT and isinstance(transport, BufferingTLSTransport) and is_socket(self._socket)
        if self._secure:
            self._socket.write = partial(_write, self._socket)
        self._turn = turn
        self._backlog = backlog
        self.limit = limit
        self.counted = 0
        self.looks = 0
        self.holder: Holder | None = None
        self._owner = owner
        self._pack = pack
        self._parts: list[bytes] = []
        self._queued = 0  # bytes of these
        self._open = True
        self.largest = largest
        if first:
            turn.add(self.flush)
            self._parts.append(first)
            self._queued = len(first)

    def write(self, data: bytes) -> None:
        """Queues frames; they leave at the end of the reactor turn."""
        if self._open:
            if not self._parts:
                self._turn.add(self.flush)
            if self._pack is not None:
                data = self._pack(data)
            self._parts.append(data)
            self._queued += len(data)
            if self._queued > self.limit:  # much of it came in this one turn, which may not be over yet
                self.check()

    def push(self, data: bytes) -> None:
        """Sends frames now, unless something waits for the end of the turn: then behind it."""
        if self._open:
            if self._parts:
                self.write(data)
            else:
                self._send(data if self._pack is None else self._pack(data))

    def room(self, size: int) -> bool:
        waiting = self.waiting()
        return not waiting or waiting + size <= self.limit

    def affords(self, size: int) -> bool:
        if self.room(size):
            self._owner.charge(size)
            return True
        return False

    def identified(self, principal: Principal) -> None:
        self._owner.identified(principal)

    def note(self, text: str) -> None:
        self._owner.note(text)

    def probe(self, done: Callable[[], None]) -> None:
        self._owner.probe(done)

    def finish(self, close: Close) -> None:
        self._owner.finish(close)

    def close(self, close: Close) -> None:
        self._owner.close(close)

    def flush(self) -> None:
        """Sends what was queued."""
        parts = self._parts
        if parts:
            self._parts = []
            self._queued = 0
            self._send(parts[0] if len(parts) == 1 else b"".join(parts))

    def shut(self) -> None:
        """Takes nothing any more; what was queued is still sent by `flush`."""
        self._open = False

    def discard(self) -> None:
        """Takes nothing any more, and forgets what was queued."""
        self.shut()
        self._parts = []
        self._queued = 0

    def gone(self) -> None:
        """The transport is lost, and with it all that waited."""
        self.discard()
        self._backlog.forget(self)
        if self._secure:
            del self._socket.write  # by which the socket refers to itself

    def check(self) -> None:
        """Sees to it that a client that lets too much wait, whoever wrote it, is closed."""
        if self._open:
            self._backlog.count(self)

    # --- to the backlog

    @property
    def account(self) -> str:
        return self._owner.account

    def slow(self) -> None:
        if self._open:
            self._owner.close(SLOW_CONSUMER)

    def overrun(self) -> None:
        self.discard()
        self._owner.overrun()

    def waiting(self) -> int:
        """Bytes that the client's socket has not taken yet."""
        socket = self._socket
        buffered: int = len(socket.dataBuffer) - socket.offset + socket._tempDataLen
        return buffered + self._queued

    def _send(self, data: bytes) -> None:
        if self._direct:
            data = send(self._socket, data)
            if not data:
                return
            self._transport.write(data)
        elif self._secure:
            self._transport._aggregator.flush()  # what Autobahn wrote before
            TLSMemoryBIOProtocol.write(self._transport, data)
        else:
            self._transport.write(data)
        self.check()


def _write(socket: Any, data: bytes) -> None:
    """Stands for the `write` of a socket's transport under TLS."""
    data = send(socket, data)
    if data:
        SocketTransport.write(socket, data)
