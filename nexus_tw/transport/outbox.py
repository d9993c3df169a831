"""The outbox: the queue and the only way out for all bytes of one connection.

It decides how bytes get to the socket, counts the queued ones, and checks their bound. If nothing is queued it sends at once
(`nexus_tw.net.direct`). Under TLS it passes bytes to the record layer at once (Twisted would wait a turn for
more, but the bytes of a turn are already joined here), and sends the resulting records at once.
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

DIRECT: Final = True  # send at once if nothing is queued; a switch for measurements


class OutboxOwner(Protocol):
    """The connection that an outbox belongs to."""

    @property
    def account(self) -> str:
        """The account under which its bytes are counted; empty before authentication."""

    def charge(self, size: int) -> None: ...

    def count(self, messages: int) -> None: ...

    def identified(self, principal: Principal) -> None: ...

    def note(self, text: str) -> None: ...

    def probe(self, done: Callable[[], None]) -> None: ...

    def finish(self, close: Close) -> None: ...

    def close(self, close: Close) -> None: ...

    def overrun(self) -> None:
        """Close, and discard the queue, since there is no room for it."""


class Outbox:
    """The queue of one client; provides `nexus_tw.interfaces.sessions.Link` and `nexus_tw.transport.backlog.Queue`."""

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
        owner: OutboxOwner,
        pack: Callable[[bytes], bytes] | None = None,
        largest: int = 0,
        first: bytes = b"",
    ) -> None:
        """`limit` bounds the bytes queued for a client that does not read; beyond it, `backlog` decides when to close `owner`.

        `pack` converts frames for this client: compresses them, or removes those that are too long for it. `first` is sent
        before any frame.
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
        """Queue frames; they are sent at the end of the reactor turn."""
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
        """Send frames now, unless others wait for the end of the turn: then after them."""
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

    def count(self, messages: int) -> None:
        self._owner.count(messages)

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
        """Send the queued frames."""
        parts = self._parts
        if parts:
            self._parts = []
            self._queued = 0
            self._send(parts[0] if len(parts) == 1 else b"".join(parts))

    def shut(self) -> None:
        """Accept nothing any more; `flush` still sends the queued frames."""
        self._open = False

    def discard(self) -> None:
        """Accept nothing any more, and discard the queue."""
        self.shut()
        self._parts = []
        self._queued = 0

    def gone(self) -> None:
        """The transport is lost, and with it the queue."""
        self.discard()
        self._backlog.forget(self)
        if self._secure:
            del self._socket.write  # by which the socket refers to itself

    def check(self) -> None:
        """Have the client closed if its queue is too long, whoever wrote to it."""
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
        """Return the bytes that the client's socket has not accepted yet."""
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
    """Replace the `write` of a socket's transport under TLS."""
    data = send(socket, data)
    if data:
        SocketTransport.write(socket, data)
