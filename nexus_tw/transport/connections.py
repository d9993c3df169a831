"""All open connections of this node: counts them against the limits, and closes them at a drain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.errors import SHUTTING_DOWN, Close, NexusError
from nexus_tw.model.settings import Limits
from nexus_tw.runtime.guard import Guard
from nexus_tw.transport.backlog import Backlog
from nexus_tw.transport.bucket import TokenBucket
from nexus_tw.transport.rates import Rates

BATCH: Final = 0.1  # s between two batches of a drain
RETURNS: Final = 500  # connections/s that a node takes back beside its other work
RETURN: Final = 1000  # ms over which clients spread their return at least
PACE: Final = 1000  # connections/s closed if the drain allows it; faster only if it must be

_guarded: Final = Guard(__name__, "A connection could not be let go")


class Open(Protocol):
    address: str

    @property
    def identity(self) -> str:
        """Return the identity (`Principal.identity`) of the client; empty before it is known."""

    @property
    def audience(self) -> Peer | None:
        """The peer that receives broadcasts; None if the connection receives none."""

    def close(self, close: Close) -> None: ...

    def drop(self) -> None:
        """End the transport at once."""


class Visitor(Open, Protocol):
    """A connection of plain HTTP. If it comes from a proxy, its requests may be of clients with several addresses."""

    address: str
    identity: str


class Full(NexusError):
    """A connection too many, or one too late; `retry_after` in seconds."""

    def __init__(
        self, reason: str, status: int, message: str, retry_after: int = 5, code: str = "rate_limited"
    ) -> None:
        super().__init__(code, message)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


class Connections:
    """Counts connections against the limits, and drains them."""

    def __init__(self, clock: IReactorTime, limits: Limits, descriptors: int, random: Random) -> None:
        """`descriptors` is how many connections the process's file descriptors allow."""
        self.clock = self._clock = clock
        self._random = random
        self.limits = self._limits = limits
        self.backlog = Backlog(clock, limits)
        self.rates = Rates(clock, limits)
        self.resting = 0  # clients with a part of a read that waits for the next turn
        self._descriptors = descriptors
        self._arrivals: TokenBucket | None = None
        self.relimit()
        self._open: dict[Open, None] = {}
        self._visits: dict[Visitor, None] = {}
        self._by_address: Counter[str] = Counter()
        self._by_subject: Counter[str] = Counter()
        self._empty: Deferred[None] | None = None
        self.draining = False

    def relimit(self) -> None:
        """Apply the current limits to new connections."""
        limits = self._limits
        self._total = min(limits.connections, self._descriptors) if limits.connections else self._descriptors
        self._per_address = limits.connections_per_address
        self._per_subject = limits.connections_per_subject
        self._arrivals = TokenBucket(limits.connect_rate, self._clock.seconds()) if limits.connect_rate else None

    def __len__(self) -> int:
        return len(self._open)

    def return_window(self) -> int:
        """Return the time in ms over which these clients should spread their return, if all are lost at once."""
        rate = min(RETURNS, self._limits.connect_rate or RETURNS)
        return max(RETURN, 1000 * len(self._open) // rate)

    def __iter__(self) -> Iterator[Open]:
        return iter(tuple(self._open))

    def arrive(self) -> None:
        """Count an arriving client; raise `Full` if clients arrive too fast."""
        if self._arrivals is not None:
            wait = self._arrivals.spend(1, self._clock.seconds())
            if wait:
                self._arrivals.spend(-1, self._clock.seconds())  # a refused client does not extend the next wait
                raise Full("connect_rate", 503, "Too many new connections", max(1, round(wait)))

    def room(self, address: str, identity: str | None) -> None:
        """Raise `Full` if there is no room for a connection from this address, of this identity, or if the node is draining."""
        if self.draining:
            raise Full("draining", 503, "The server is shutting down", code="shutting_down")
        if len(self._open) + len(self._visits) >= self._total:
            raise Full("connections", 503, "Too many connections")
        if self._per_address and self._by_address[address] >= self._per_address:
            raise Full("connections_per_address", 429, "Too many connections from this address")
        if identity is not None:
            self._room_for(identity)

    def add(self, connection: Open) -> None:
        self._open[connection] = None
        self._by_address[connection.address] += 1
        self._by_subject[connection.identity] += 1

    def identify(self, connection: Open, identity: str) -> None:
        """Count an open connection under its identity from now on; the caller sets `connection.identity`. Raise `Full` if that
        makes too many of that identity."""
        if identity != connection.identity:
            self._room_for(identity)
            _less(self._by_subject, connection.identity)
            self._by_subject[identity] += 1

    def remove(self, connection: Open) -> None:
        if self._open.pop(connection, self) is self:
            return
        _less(self._by_address, connection.address)
        _less(self._by_subject, connection.identity)
        if not self._open and self._empty is not None:
            self._empty.callback(None)
            self._empty = None

    @property
    def visits(self) -> int:
        """The number of plain HTTP connections that are counted."""
        return len(self._visits)

    def visit(self, visitor: Visitor, address: str) -> None:
        """Count a connection of plain HTTP under the address of its current request. Raise `Full` if it is one too many; then
        it is not counted at all."""
        if visitor in self._visits:
            if visitor.address == address:
                return
            self.left(visitor)
        else:
            self.arrive()
        self.room(address, None)
        visitor.address = address
        self._visits[visitor] = None
        self._by_address[address] += 1
        self._by_subject[visitor.identity] += 1

    def identify_visit(self, visitor: Visitor, identity: str) -> None:
        """Count it under the identity of its current request. Raise `Full` if that makes too many of that identity."""
        if visitor in self._visits:
            self.identify(visitor, identity)
            visitor.identity = identity

    def left(self, visitor: Visitor) -> None:
        """Stop counting it: it is closed, or becomes another kind of connection."""
        if self._visits.pop(visitor, self) is not self:
            _less(self._by_address, visitor.address)
            _less(self._by_subject, visitor.identity)

    def peers(self) -> Iterator[Peer]:
        """The clients that receive broadcasts."""
        for connection in tuple(self._open):
            peer = connection.audience
            if peer is not None:
                yield peer

    async def drain(self, seconds: float, settled: Callable[[], Awaitable[None]]) -> None:
        """Close every connection, in random order, in batches spread over up to `seconds`; then drop those that are left.

        Wait for `settled` before each batch, so that everything its clients have sent until then is answered before they are
        closed. A small fleet is closed at once: batches exist so that other nodes can take the clients, not to delay the end.
        """
        self.draining = True
        # No sooner than a restart takes: those that return at once would find nobody.
        close = SHUTTING_DOWN._replace(delay=max(SHUTTING_DOWN.delay, self.return_window()))
        timer = self._clock.callLater(seconds, self._drop)
        for visitor in tuple(self._visits):
            _guarded(visitor.close, close)
        waiting = list(self._open)
        self._random.shuffle(waiting)
        batches = max(1, min(int(seconds * 0.7 / BATCH), -(-len(waiting) // int(PACE * BATCH))))
        size = -(-len(waiting) // batches)
        for start in range(0, len(waiting), size or 1):
            if start:
                await self._sleep(BATCH)
            await settled()
            for connection in waiting[start : start + size]:
                _guarded(connection.close, close)
        if self._open:
            self._empty = Deferred()
            await self._empty
        if timer.active():
            timer.cancel()

    def _room_for(self, identity: str) -> None:
        if self._per_subject and self._by_subject[identity] >= self._per_subject:
            raise Full("connections_per_subject", 429, "Too many connections of this subject")

    def _drop(self) -> None:
        for connection in (*self._open, *self._visits):
            _guarded(connection.drop)

    def _sleep(self, seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._clock.callLater(seconds, done.callback, None)
        return done


def _less(counter: Counter[str], key: str) -> None:
    """Decrement the count; remove it at zero."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
