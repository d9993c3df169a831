"""`IHistory` of a node on the memory bus: answers requests in the next turn, a bounded number in each turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from nexus_tw.bus.bounds import MAX_KNOWN, too_many
from nexus_tw.bus.history import History
from nexus_tw.bus.requests import Request, Requests
from nexus_tw.interfaces.plugins import IHistory
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Missed, Position
from nexus_tw.runtime.guard import Guard

EVENTS_AT_ONCE: Final = 16384  # read in one turn, about
NAMES_AT_ONCE: Final = 2048  # compared with patterns in one turn
SCANS: Final = 4096  # patterns that wait to be compared

Known = Callable[[dict[str, Position] | NexusError], None]

_guarded: Final = Guard(__name__, "An answer of the history could not be handled")


def away() -> NexusError:
    return NexusError("bus_unavailable", "The event bus is away")


class _Scan:
    """A pass over the types known at its start, for those that a pattern selects."""

    def __init__(self, pattern: Pattern) -> None:
        self.waiters: list[Known] = []
        self._pattern = pattern
        self._names: Iterator[str] = iter(())
        self._found: dict[str, Position] = {}

    def begin(self, history: History) -> None:
        self._names = iter(list(history.types()))

    def step(self, history: History, most: int) -> tuple[int, dict[str, Position] | NexusError | None]:
        """Visit up to `most` names. Return their number, and the answer once it is complete."""
        names = list(islice(self._names, most))
        for name in names:
            if self._pattern.matches(name) and self._pattern.selects(name):
                top = history.known(name)
                if top is not None:
                    self._found[name] = top
        if len(self._found) > MAX_KNOWN:
            return len(names), too_many(self._pattern)
        return len(names), None if len(names) == most else self._found


@implementer(IHistory)
class MemoryHistory:
    """Answers one node from the `History` that all nodes of its broker share."""

    def __init__(
        self, history: History, clock: IReactorTime, monotonic: Callable[[], float], available: Callable[[], bool]
    ) -> None:
        """`available` returns whether the node's bus is available."""
        self._history = history
        self._clock = clock
        self._monotonic = monotonic
        self._available = available
        self._requests = Requests()
        self._scan: _Scan | None = None  # the one in progress
        self._scans: dict[Pattern, _Scan] = {}  # waiting ones, oldest first
        self._scheduled = False

    # --- IHistory

    def tops(self, types: Sequence[str], done: Known) -> None:
        if not self._available():
            done(away())
            return
        tops = {event_type: self._history.top(event_type) for event_type in types}
        done({event_type: top for event_type, top in tops.items() if top is not None})

    def known(self, pattern: Pattern, done: Known) -> None:
        if not self._available():
            done(away())
        elif pattern.exact:
            top = self._history.known(pattern.text)
            done({} if top is None else {pattern.text: top})
        else:
            waiting = self._scans.get(pattern)
            if waiting is None and len(self._scans) >= SCANS:
                done(NexusError("bus_unavailable", f"The event bus is behind: {SCANS} patterns wait to be compared"))
                return
            if waiting is None:
                waiting = self._scans[pattern] = _Scan(pattern)
            waiting.waiters.append(done)
            self._wake()

    def read(self, requests: Sequence[Request], done: Callable[[list[Missed] | NexusError], None]) -> None:
        if not self._available():
            done(away())
            return
        self._requests.add(requests, done)
        if self._requests:
            self._wake()

    def page(
        self, event_type: str, since: Position | None, limit: int, done: Callable[[Missed | NexusError], None]
    ) -> None:
        if not self._available():
            done(away())
            return
        now = self._monotonic()
        if since is None:
            done(self._history.oldest(event_type, limit, now))
        else:
            done(self._history.read(event_type, since, now, limit))

    # ---

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._work)

    def _work(self) -> None:
        self._scheduled = False
        if not self._available():
            self._fail()
            return
        left, now = EVENTS_AT_ONCE, self._monotonic()
        while self._requests and left > 0:
            (event_type, since), answer = self._requests.next()
            missed = self._history.read(event_type, since, now)
            left -= 1 + len(missed.events)
            answer(missed)
        self._look()
        if self._requests or self._scans or self._scan is not None:
            self._wake()

    def _look(self) -> None:
        """Compare some names with the waiting patterns."""
        left = NAMES_AT_ONCE
        while left > 0 and (self._scan is not None or self._scans):
            if self._scan is None:
                self._scan = self._scans.pop(next(iter(self._scans)))
                self._scan.begin(self._history)
            scan = self._scan
            names, known = scan.step(self._history, left)
            left -= names + 1
            if known is not None:
                self._scan = None
                for waiter in scan.waiters:
                    _guarded(waiter, known)

    def _fail(self) -> None:
        scans = [*(() if self._scan is None else (self._scan,)), *self._scans.values()]
        self._scan, self._scans = None, {}
        for scan in scans:
            for waiter in scan.waiters:
                _guarded(waiter, away())
        self._requests.fail(away())
