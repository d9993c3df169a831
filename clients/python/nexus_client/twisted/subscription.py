"""A stream of events that are given to a function, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nexus_client.core.queue import Queue
from nexus_client.errors import NexusError
from nexus_client.events import Event, Gap
from nexus_client.twisted.results import Outcome, deferred

Consumer = Callable[[Event | Gap], Any]


class Subscription:
    """Returned by `Nexus.subscribe`.

    The consumer is called with each `Event` and `Gap`; if it returns a Deferred or a coroutine, with the next one after that
    has ended. One that fails is logged and called with the next.
    """

    _log = Logger("nexus_client")

    def __init__(self, consumer: Consumer, limit: int, close: Callable[[], None], known: Callable[[], dict[str, str]]) -> None:
        self._consumer = consumer
        self._queue = Queue(limit)
        self._close = close
        self._known = known
        self._busy = False
        self._error: NexusError | None = None
        self._over = False
        self._last: dict[str, str] | None = None  # what was known at the end
        self._accepted: Outcome[None] = Outcome()
        self._ended: Outcome[None] = Outcome()

    @property
    def positions(self) -> dict[str, str]:
        """By event type, the position up to which the consumer was given everything; to be saved, and given as `since`."""
        return self._queue.positions(self._known() if self._last is None else self._last)

    @property
    def dropped(self) -> int:
        """How many items were dropped because the consumer was too slow; each place is told by a `Gap`."""
        return self._queue.dropped

    def accepted(self) -> Deferred[None]:
        """Return a Deferred that fires once the server has accepted the subscription: events from then on come."""
        return self._accepted.wait()

    def ended(self) -> Deferred[None]:
        """Return a Deferred that fires after the last item: with None after `close`, else with the error."""
        return self._ended.wait()

    def close(self) -> None:
        """End it; the consumer is given nothing more."""
        if self._last is None:
            self._last = self.positions
        self._queue = Queue()
        self._close()

    # The service's side.

    def accept(self) -> None:
        self._accepted.happen(None)

    def put(self, item: Event | Gap) -> None:
        self._queue.put(item)
        if not self._busy:
            self._consume()

    def end(self, error: NexusError | None, positions: dict[str, str]) -> None:
        self._over = True
        if self._last is None:
            self._last = positions
        self._error = error
        if not self._busy:
            self._consume()

    def _consume(self) -> None:
        self._busy = True
        while (item := self._queue.take()) is not None:
            done = self._give(item)
            if done is not None and (not done.called or done.paused):
                done.addCallback(lambda _: self._consume())
                return
        self._busy = False
        if self._over:
            result = self._error
            self._accepted.happen(result if result is not None else NexusError("the subscription was closed"))
            self._ended.happen(result)

    def _give(self, item: Event | Gap) -> Deferred[Any] | None:
        """Call the consumer. Return a Deferred without a failure if it may not have ended yet."""
        try:
            result = self._consumer(item)
        except Exception:
            self._complain(Failure())
            return None
        return None if result is None else deferred(lambda: result).addErrback(self._complain)

    def _complain(self, failure: Failure) -> None:
        self._log.failure("a consumer of events failed", failure)
