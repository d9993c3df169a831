"""Adoption: gives events of other programs a place in the history, once for all nodes (`bus.adopt`).

All nodes of a Redis see one order, so they agree on a name for a foreign event: the last mark on its channels, and the number
of foreign events of its type since. Each node requests a place under that name; the first gets one, and its notice brings the
event to all nodes. A node that does not know the name, because it subscribed after the mark, gets the notice too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from secrets import token_hex
from typing import Any, Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.redis.batch import MAX_BYTES, MAX_EVENTS, new_birth, words_of
from nexus_tw.bus.redis.channels import KEPT, Channels, Source, publish_command, publish_head
from nexus_tw.bus.redis.connection import Publisher, guarded
from nexus_tw.bus.redis.scripts import ADOPT, Call, bulk
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, some
from nexus_tw.runtime.turn import Turn

MARK: Final = b"! "  # the beginning of a mark, on an `about` channel or on that of the marks


class _Run:
    """Consecutive foreign events of one type after one mark."""

    __slots__ = ("data", "event_type", "first", "mark", "size")

    def __init__(self, event_type: str, mark: bytes, first: int) -> None:
        self.event_type = event_type
        self.mark = mark
        self.first = first
        self.data: list[bytes] = []
        self.size = 0


class Adoption:
    """The names of foreign events, as known by one node over one link."""

    def __init__(
        self,
        channels: Channels,
        bounds: Bounds,
        clock: IReactorTime,
        metrics: Metrics,
        publisher: Publisher,
        timeline: bytes,
        alone: Callable[[str, bytes], None],
    ) -> None:
        """`alone` is called with type and data of an event for which Redis refused a place."""
        self._channels = channels
        self._bounds = bounds
        self._metrics = metrics
        self._publisher = publisher
        self._call = Call(ADOPT, channels.prefix, timeline)
        self._alone = alone
        self._turn = Turn(clock)
        self._token = token_hex(8)
        self._numbers = count(1)
        self._mark = b""  # the last one for all types
        self._named: dict[str, tuple[bytes, int]] = {}  # by type: a later mark, and the number of events since
        # The patterns that were subscribed to before the last mark that concerns them.
        self._settled: PatternIndex[Pattern] = PatternIndex(some)
        self._patterns: set[Pattern] = set()  # the same
        self._waiting: dict[bytes, tuple[list[Pattern], Callable[[], None]]] = {}
        self._runs: list[_Run] = []

    def settle(self, patterns: Iterable[Pattern], source: Source | None, done: Callable[[], None]) -> None:
        """Send a mark. Call `done` once it has come back; from then on foreign events of these patterns have names.

        `source` is their subscription on Redis; None for all subscriptions.
        """
        mark = b"%b%b.%d" % (MARK, self._token.encode(), next(self._numbers))
        self._waiting[mark] = list(patterns), done
        channel = source.names[0] if source is not None and not source.glob else self._channels.marks
        self._publisher.put(publish_command(publish_head(channel), mark), _nothing)

    def drop(self, pattern: Pattern) -> None:
        if pattern in self._patterns:
            self._patterns.remove(pattern)
            self._settled.drop(pattern)
        for patterns, _ in self._waiting.values():
            if pattern in patterns:
                patterns.remove(pattern)

    def marked(self, event_type: str | None, mark: bytes) -> None:
        """Process a mark, for one type or for all."""
        if event_type is None:
            self._mark = mark
            self._named.clear()
        else:
            self._named[event_type] = mark, 0
        patterns, done = self._waiting.pop(mark, ((), _nothing))
        for pattern in patterns:
            self._patterns.add(pattern)
            self._settled.put(pattern, pattern)
        guarded(done)

    def release(self) -> None:
        """Call back all waiters for a mark; the link has ended."""
        waiting, self._waiting = self._waiting, {}
        self._runs.clear()
        for _, done in waiting.values():
            guarded(done)

    def came(self, event_type: str) -> tuple[bytes, int] | None:
        """Count a foreign event. Return its name, or None if this node does not know it."""
        mark, number = self._named.get(event_type, (self._mark, 0))
        if not mark or not self._settled.any(event_type):
            return None
        if event_type not in self._named and len(self._named) >= KEPT and not self._waiting:
            self.settle((), None, _nothing)  # restarts the count for all nodes
        self._named[event_type] = mark, number + 1
        return mark, number + 1

    def adopt(self, event_type: str, name: tuple[bytes, int], data: bytes) -> None:
        """Request a place, with others of this turn."""
        mark, number = name
        if not self._runs:
            self._turn.add(self._ask)
        run = self._runs[-1] if self._runs else None
        if (
            run is None
            or (run.event_type, run.mark, run.first + len(run.data)) != (event_type, mark, number)
            or len(run.data) >= MAX_EVENTS
            or run.size + len(data) > MAX_BYTES
        ):
            run = _Run(event_type, mark, number)
            self._runs.append(run)
        run.data.append(data)
        run.size += len(data)

    def _ask(self) -> None:
        runs, self._runs = self._runs, []
        for run in runs:
            self._ask_for(run)

    def _ask_for(self, run: _Run) -> None:
        names, kept = self._channels, self._bounds.of(run.event_type)
        assert kept is not None
        name = run.event_type.encode()

        def answered(reply: int | NexusError) -> None:
            if isinstance(reply, NexusError):
                for data in run.data:
                    self._alone(run.event_type, data)
            else:
                self._metrics.events_adopted += reply

        keys = names.hash_of(run.event_type), names.list_of(run.event_type), names.adopted(run.event_type, run.mark)
        head = (new_birth(), names.metadata + name, words_of(kept, self._bounds.total), b"%d" % run.first)
        command = self._call.command([bulk(key) for key in keys], [bulk(word) for word in (*head, *run.data)])
        self._publisher.put_script(command, answered, int)


def _nothing(_: Any = None) -> None:
    pass
