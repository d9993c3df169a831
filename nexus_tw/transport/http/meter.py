"""The byte rate of a connection for HTTP, and its part in the rate of its subject."""

from __future__ import annotations

from nexus_tw.model.metrics import Metrics
from nexus_tw.transport.bucket import TokenBucket
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.gate import Gate
from nexus_tw.transport.rates import GRAIN


class Meter:
    """Counts the bytes of one connection, and pauses its gate if they arrive too fast."""

    __slots__ = ("_connections", "_gate", "_metrics", "_stream", "_uncounted", "_unshared")

    def __init__(self, connections: Connections, metrics: Metrics, gate: Gate) -> None:
        self._connections = connections
        self._metrics = metrics
        self._gate = gate
        self._uncounted = self._unshared = 0  # bytes not charged yet to the connection, and to its subject
        self._stream: TokenBucket | None = None

    def charge(self, size: int, account: str) -> None:
        """Count bytes; `account` is empty until the client is authenticated."""
        self._uncounted += size
        self._unshared += size
        if self._uncounted >= GRAIN:
            self.count(account)

    def count(self, account: str) -> None:
        """Charge the bytes gathered so far to the rates."""
        connections = self._connections
        size, self._uncounted = self._uncounted, 0
        wait = 0.0
        rate = connections.limits.bytes_rate
        if rate:
            now = connections.clock.seconds()
            if self._stream is None or self._stream.rate != rate:
                self._stream = TokenBucket(rate, now)
            wait = self._stream.spend(size, now)
        if account:
            shared, self._unshared = self._unshared, 0
            wait = max(wait, connections.rates.spend(account, shared))
        if wait:
            self._metrics.reads_paused += 1
            self._gate.rest(wait)
