"""Event streams: `GET /api/v1/events` with `Accept: text/event-stream` (HTML standard, "Server-sent events").

A browser's `EventSource` reconnects by itself after the end of a stream or a lost connection, but never after a status other
than 200. So if a reconnecting client (it has a `Last-Event-ID`) is refused for a temporary reason, it gets a stream that ends
at once and tells it when to reconnect. A new client gets the status.

The answer has no length and ends with the connection: no part of it depends on one client, except its header.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any, Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from nexus_tw.model import payloads
from nexus_tw.model.errors import SHUTTING_DOWN, Close, NexusError, invalid
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.protocols.sse.session import StreamDialect, StreamRequest
from nexus_tw.runtime.turn import Turn
from nexus_tw.transport.admission import Admitted, Refused, Streamer
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.conversation import LINGER, Conversation, Shared
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.http.problems import response
from nexus_tw.transport.keepalive import keep_alive
from nexus_tw.transport.opening import EVENT_STREAM, LAST_ID, Opening

EVENTS: Final = "events"
FILTERS: Final = "filters"
LAST: Final = "lastEventId"  # for clients that cannot set the header

_RETRY: Final = (1000, 5000)  # ms until a client that was refused comes back
_REFUSED: Final = Close(1000, "Refused", False)  # for logs and metrics: the client gets an HTTP response


class EventStream(Conversation, Protocol):
    """A client of an event stream."""

    __slots__ = ("_accepted", "_opening", "_refused")

    door: EventStreams

    def __init__(self, door: EventStreams, admitted: Admitted, opening: Opening) -> None:
        Conversation.__init__(self, door, admitted)
        self._opening = opening
        self._accepted = False
        self._refused: NexusError | None = None

    def connectionMade(self) -> None:
        with suppress(AttributeError, OSError):  # a UNIX socket has no such option
            self.transport.setTcpNoDelay(True)
        keep_alive(self.transport, self.door.pulse.settings)
        self.open()

    # --- the life's owner

    def farewell(self, close: Close) -> None:
        assert self.outbox is not None
        self.closed = close
        if self._accepted:
            self.outbox.write(self.door.dialect.farewell(close))
        else:
            self.outbox.write(self.door.refusal(self._opening, _refusal(self._refused or _early(close))))
        self.take_leave(close)

    def take_leave(self, close: Close) -> None:
        assert self.outbox is not None
        self.outbox.flush()
        self.outbox.shut()
        self.transport.loseConnection()
        self.linger(LINGER)

    def ping(self) -> None:
        # The client says nothing: whether it is still there its kernel tells, which acknowledges the comments.
        self.heard = self.door.pulse.now
        if self._accepted:
            super().ping()

    # --- the answer

    def accept(self) -> None:
        assert self.outbox is not None
        self._accepted = True
        self.outbox.write(_head(self._opening))

    def refuse(self, error: NexusError) -> None:
        self._refused = error
        self.door.metrics.errors[error.code] += 1
        self.close(_REFUSED)

    # --- receiving

    def bound(self, size: int) -> None:
        """Do nothing: the client sends no messages."""

    def take(self, _most: int, _inflated: int) -> bool:
        return False

    def dataReceived(self, data: bytes) -> None:
        self.meter(0, len(data))  # and ignore it

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone(1005 if reason.check(ConnectionDone) else 1006, "")


class EventStreams(Shared):
    """Makes event streams, and holds their shared objects."""

    def __init__(
        self,
        clock: IReactorTime,
        turn: Turn,
        pulse: Pulse,
        connections: Connections,
        limits: Limits,
        metrics: Metrics,
        dialect: StreamDialect,
        random: Random,
    ) -> None:
        super().__init__(clock, turn, pulse, connections, limits, metrics)
        self.dialect = dialect
        self._random = random

    def connection(self, who: Streamer, opening: Opening) -> EventStream:
        """Return a connection for an admitted client; give it the transport. Raise `invalid_message` for wrong parameters."""
        asked = self.dialect.asked(self._request(opening))
        stream = EventStream(self, Admitted(who.principal, asked, None, who.address, self.limits.message), opening)
        asked.answer = stream
        return stream

    def refusal(self, opening: Opening, refusal: Refused) -> bytes:
        """Return the answer to a request that is refused, after which the connection is closed."""
        if refusal.error.kind.retryable and LAST_ID in opening.headers:
            return _head(opening) + b"retry: %d\n\n" % self._random.randint(*_RETRY)
        return response(refusal.error, refusal.status, (*refusal.headers, *_allowed(opening)))

    def _request(self, opening: Opening) -> StreamRequest:
        given = opening.parameters()
        for name in (EVENTS, FILTERS, LAST):
            if len(given.get(name, ())) > 1:
                raise invalid(name, "is there more than once")
        if EVENTS not in given:
            raise invalid(EVENTS, "is missing")
        filters: Any = None
        if FILTERS in given:
            filters = payloads.decode(given[FILTERS][0].encode(), FILTERS, self.limits.depth)
            if type(filters) is not dict:
                raise invalid(FILTERS, "expected object")
        last_id = opening.headers.get(LAST_ID) or (given[LAST][0] if LAST in given else None)
        return StreamRequest(given[EVENTS][0].split(","), filters, last_id)


def _head(opening: Opening) -> bytes:
    """Return the header block of a stream."""
    fields = (
        ("Content-Type", EVENT_STREAM),
        ("Cache-Control", "no-store"),
        ("X-Accel-Buffering", "no"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
        ("Server", "nexus"),
        *_allowed(opening),
    )
    return "\r\n".join(["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields), "", ""]).encode("ascii")


def _allowed(opening: Opening) -> tuple[tuple[str, str], ...]:
    """Return the fields that let a page of another origin read the answer. Its request has been admitted before."""
    origin = opening.headers.get("origin")
    return () if origin is None else (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))


def _refusal(error: NexusError) -> Refused:
    return Refused(error, error.kind.http)


def _early(close: Close) -> NexusError:
    """Return the error for a stream that is closed before its request was answered."""
    if close.reconnect:
        return NexusError("shutting_down" if close is SHUTTING_DOWN else "rate_limited", close.reason)
    return NexusError("unauthorized", close.reason)
