"""`IHistory` of a node on the memory bus: answers in the next turn what is asked in this one, a bounded part in each turn."""

from __future__ import annotations

from collections import deque
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
NAMES_AT_ONCE: Final = 2048  # compared with a pattern in one turn

Known = Callable[[dict[str, Position] | NexusError], None]

_guarded: Final = Guard(__name__, "An answer of the history could not be handled")


def away() -> NexusError:
    return NexusError("bus_unavailable", "The event bus is away")


class _Scan:
    """The types that a pattern selects, of those that are known when it begins."""

    def __init__(self, history: History, pattern: Pattern, done: Known) -> None:
        self.done = done
        self._history = history
        self._pattern = pattern
        self._names: Iterator[str] | None = None
        self._found: dict[str, Position] = {}

    def step(self) -> dict[str, Position] | NexusError | None:
        """Look at some names; return the answer once it is known."""
        if self._names is None:
            self._names = iter(list(self._history.types()))
        names = list(islice(self._names, NAMES_AT_ONCE))
        for name in names:
            if self._pattern.matches(name) and self._pattern.selects(name):
                top = self._history.known(name)
                if top is not None:
                    self._found[name] = top
        if len(self._found) > MAX_KNOWN:
            return too_many(self._pattern)
        return None if len(names) == NAMES_AT_ONCE else self._found


@implementer(IHistory)
class MemoryHistory:
    """Answers one node from the `History` that all nodes of its broker share."""

    def __init__(
        self, history: History, clock: IReactorTime, monotonic: Callable[[], float], available: Callable[[], bool]
    ) -> None:
        """`available` says whether the node's bus is."""
        self._history = history
        self._clock = clock
        self._monotonic = monotonic
        self._available = available
        self._requests = Requests()
        self._scans: deque[_Scan] = deque()
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
            self._scans.append(_Scan(self._history, pattern, done))
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
        if self._scans:
            scan = self._scans[0]
            known = scan.step()
            if known is not None:
                self._scans.popleft()
                _guarded(scan.done, known)
        if self._requests or self._scans:
            self._wake()

    def _fail(self) -> None:
        scans, self._scans = self._scans, deque()
        for scan in scans:
            _guarded(scan.done, away())
        self._requests.fail(away())
