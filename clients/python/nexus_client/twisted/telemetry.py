"""Samples on their way into the spool, and the news of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_client.core.options import Sample
from nexus_client.errors import NexusError, Overloaded, SampleDropped, Stopped
from nexus_client.spool import Spool
from nexus_client.twisted.results import Outcome

WAITING: Final = 10_000  # samples that wait for the disk


class Recorded:
    """A sample that is in the spool."""

    def __init__(self, id: str, outcome: Outcome[None]) -> None:
        self.id = id
        self._outcome = outcome

    def stored(self) -> Deferred[None]:
        """Return a Deferred that fires once the server has stored the sample.

        It fails with `SampleDropped` if the spool was full, with `RequestError` if the server refuses the sample, and with
        `Stopped` if the client ends before; a spool on disk still sends it after the next start.
        """
        return self._outcome.wait()


class Telemetry:
    """One after the other, calls of the spool: in a thread if it has a file, so that a slow disk stops nothing else."""

    _log = Logger("nexus_client")

    def __init__(self, spool: Spool, reactor: Any, spooled: Callable[[], None], batch: Callable[[list[Sample]], None]) -> None:
        self._spool = spool
        self._reactor = reactor
        self._spooled = spooled
        self._batch = batch
        self._adding: deque[tuple[Sample, Deferred[Recorded]]] = deque()
        self._outcomes: dict[str, Outcome[None]] = {}
        self._last: Deferred[Any] = succeed(None)
        self._is_open = False
        self._flushing = False
        self._emptied: Outcome[None] = Outcome()

    def open(self) -> Deferred[None]:
        """Open the spool. Fails with `OSError`."""

        def opened(_: Any) -> None:
            self._is_open = True
            self._flush()
            if len(self._spool):
                self._spooled()

        return self._run(self._spool.open).addCallback(opened)

    def add(self, sample: Sample) -> Deferred[Recorded]:
        if len(self._adding) >= WAITING:
            raise Overloaded(f"{WAITING} samples wait for the spool")
        waiting: Deferred[Recorded] = Deferred()
        self._adding.append((sample, waiting))
        self._flush()
        return waiting

    def fetch(self, limit: int) -> None:
        self._run(self._spool.next, limit).addCallbacks(self._batch, self._failed)

    def stored(self, ids: list[str]) -> None:
        self._remove(ids, None)

    def refused(self, ids: list[str], error: NexusError) -> None:
        self._remove(ids, error)

    def emptied(self) -> Deferred[None]:
        """Return a Deferred that fires once the server has everything."""
        return succeed(None) if self._is_empty else self._emptied.wait()

    @property
    def _is_empty(self) -> bool:
        return not self._adding and not self._flushing and not len(self._spool)

    def close(self, error: Stopped) -> Deferred[None]:
        """Close the spool; what waits is told the error."""

        def closed(result: Any) -> Any:
            while self._adding:
                self._adding.popleft()[1].errback(Failure(error))
            for outcome in self._outcomes.values():
                outcome.happen(error)
            self._outcomes.clear()
            return result

        self._is_open = False
        return self._run(self._spool.close).addBoth(closed)

    def _flush(self) -> None:
        """Add what waits, in one transaction; what comes meanwhile goes into the next."""
        if not self._is_open or self._flushing or not self._adding:
            return
        self._flushing = True
        batch = list(self._adding)
        self._adding.clear()

        def added(dropped: list[str]) -> None:
            for sample, _ in batch:
                self._outcomes[sample.id] = Outcome()
            recorded = [(waiting, Recorded(sample.id, self._outcomes[sample.id])) for sample, waiting in batch]
            for name in dropped:
                if outcome := self._outcomes.pop(name, None):
                    outcome.happen(SampleDropped("the spool was full"))
            for waiting, each in recorded:
                waiting.callback(each)
            self._spooled()

        def failed(failure: Failure) -> None:
            for _, waiting in batch:
                waiting.errback(failure)

        def again(_: Any) -> None:
            self._flushing = False
            self._flush()

        adding = self._run(self._spool.add, [sample for sample, _ in batch])
        adding.addCallbacks(added, failed).addErrback(self._failed).addBoth(again)

    def _remove(self, ids: list[str], error: NexusError | None) -> None:
        def removed(_: Any) -> None:
            for name in ids:
                if outcome := self._outcomes.pop(name, None):
                    outcome.happen(error)
            if self._is_empty:
                self._emptied.happen(None)
                self._emptied = Outcome()

        self._run(self._spool.remove, ids).addCallback(removed).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("the spool failed", failure)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Call the spool after all earlier calls."""
        result: Deferred[Any] = Deferred()

        def go(_: Any) -> Deferred[Any]:
            if self._spool.in_memory:
                running: Deferred[Any] = maybeDeferred(function, *arguments)
            else:
                running = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)
            return running.addBoth(result.callback)

        self._last.addBoth(go)
        return result
