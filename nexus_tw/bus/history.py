"""The histories of all event types of a realm in this process, bounded by bytes and by the number of types.

Beyond the bytes, the type published longest ago loses its events first; its epoch and offset are kept, so that a client that
missed none of them is told so. A type is forgotten only if there are too many. If it appears again, it begins a new epoch, so
that an old position is never mistaken for a new one.

An epoch is `TIMELINE.BIRTH`. All types born since the last one was forgotten share a timeline. A client that knows the timeline
cannot have missed events of such a type from before its birth. So offset 0 of any epoch of the timeline means the beginning of
each of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import count
from secrets import token_hex
from typing import Final

from nexus_tw.bus.bounds import Bound, Bounds
from nexus_tw.bus.log import Log, Verdict
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.positions import NOWHERE, Missed, Position

TYPES: Final = 65536  # event types whose epoch and offset are kept
# Bytes in CPython: of a type, in addition for a type with events, and of an event in addition to its data and metadata.
TYPE_COST: Final = 512
LOG_COST: Final = 768
EVENT_COST: Final = 256


_new: Final = tuple.__new__  # half the time of the constructor, for each event


def new_timeline() -> str:
    return token_hex(4)


class History:
    """Logs by type. Logs with events are kept in the order of their last events, separately for each bound, for expiry."""

    def __init__(
        self, bounds: Bounds, metrics: Metrics, types: int = TYPES, timeline: Callable[[], str] = new_timeline
    ) -> None:
        """`timeline` returns a name that it has never returned before."""
        self._bounds = bounds
        self._metrics = metrics
        self._most = types
        self._new_timeline = timeline
        self._timeline = timeline()
        self._births = count(1)
        # Each with the logs of the same bound that have events.
        self._logs: dict[str, tuple[Log, OrderedDict[str, Log]]] = {}
        self._full: dict[Bound, OrderedDict[str, Log]] = {}
        self._empty: OrderedDict[str, Log] = OrderedDict()  # logs without events, in the order of losing the last one
        self._cost = 0

    def append(self, event_type: str, data: bytes, metadata: bytes, millis: int, now: float) -> Position | None:
        """Add an event and return its position; None if the type has no history."""
        known = self._logs.get(event_type) or self._born(event_type)
        if known is None:
            return None
        log, full = known
        grown = EVENT_COST - log.size
        try:
            full.move_to_end(event_type)
        except KeyError:
            del self._empty[event_type]
            full[event_type] = log
            grown += LOG_COST
        dropped = log.append(data, metadata, millis, now)
        grown += log.size - EVENT_COST * dropped
        self._cost += grown
        metrics = self._metrics
        metrics.history_bytes += grown
        if dropped != 1:  # a full log drops one for each that comes
            metrics.history_events += 1 - dropped
        position = _new(Position, (log.epoch, log.offset))
        if log.events is None:  # an event that alone exceeds the bound
            self._emptied(event_type)
        if self._cost > self._bounds.total:
            self._shrink()
        return position

    def top(self, event_type: str) -> Position | None:
        """Return the position of the type's last event; None if the type has no history."""
        known = self._logs.get(event_type) or self._born(event_type)
        return None if known is None else known[0].top

    def types(self) -> Iterable[str]:
        """Return the known types."""
        return self._logs.keys()

    def known(self, event_type: str) -> Position | None:
        """Return the position of the type's last event; None if the type is unknown."""
        known = self._logs.get(event_type)
        return None if known is None else known[0].top

    def read(self, event_type: str, since: Position, now: float, limit: int | None = None) -> Missed:
        """Return the events after that position, or the first of them."""
        if self._bounds.of(event_type) is None:
            return Missed(False, NOWHERE)
        known = self._logs.get(event_type)
        top = self._before() if known is None else known[0].top
        if not since.offset and since.epoch.partition(".")[0] == top.epoch.partition(".")[0]:
            since = Position(top.epoch, 0)
        self._metrics.history_reads += 1
        if known is None:
            whole = since == top
        else:
            log, _ = known
            whole = log.verdict(since, now) is Verdict.WHOLE
            if whole:
                return Missed(True, top, log.after(since.offset, limit))
        self._metrics.history_gaps += not whole
        return Missed(whole, top)

    def oldest(self, event_type: str, limit: int, now: float) -> Missed:
        """Return the oldest events that are kept."""
        known = self._logs.get(event_type)
        if known is None:
            return Missed(True, NOWHERE if self._bounds.of(event_type) is None else self._before())
        log, _ = known
        return Missed(True, log.top, log.after(log.oldest(now), limit))

    def expire(self, now: float) -> float | None:
        """Drop the events of types whose last event is past its age. Return the time of the next expiry; None if no event is
        left."""
        due: float | None = None
        for bound, full in self._full.items():
            while full:
                event_type, log = next(iter(full.items()))
                end = log.newest + bound.age
                if end >= now:
                    due = end if due is None else min(due, end)
                    break
                self._clear(event_type, "age")
        return due

    # ---

    def _before(self) -> Position:
        """Return the position before the first event of any unknown type: reading does not begin a type."""
        return Position(f"{self._timeline}.-", 0)

    def _born(self, event_type: str) -> tuple[Log, OrderedDict[str, Log]] | None:
        bound = self._bounds.of(event_type)
        if bound is None:
            return None
        if len(self._logs) >= self._most:
            self._forget()
        log = Log(f"{self._timeline}.{next(self._births)}", bound, self._metrics.history_trimmed)
        born = self._logs[event_type] = log, self._full.setdefault(bound, OrderedDict())
        self._empty[event_type] = log
        self._metrics.history_types += 1
        self._grew(TYPE_COST, 0)
        if self._cost > self._bounds.total:
            self._shrink()
        return born

    def _grew(self, size: int, events: int) -> None:
        self._cost += size
        self._metrics.history_bytes += size
        self._metrics.history_events += events

    def _shrink(self) -> None:
        """Drop events of the types published longest ago, then types without events, until all is within the bound."""
        while self._cost > self._bounds.total:
            oldest = self._oldest()
            if oldest is not None:
                self._clear(oldest, "total")
            elif len(self._empty) > 1:
                self._forget()
            else:
                break

    def _oldest(self) -> str | None:
        """Return the type with events that was published longest ago."""
        heads = [next(iter(full.items())) for full in self._full.values() if full]
        return min(heads, key=lambda head: head[1].newest)[0] if heads else None

    def _clear(self, event_type: str, why: str) -> None:
        log, _ = self._logs[event_type]
        size = log.size
        dropped = log.clear()
        self._metrics.history_trimmed[why] += dropped
        self._grew(-size - EVENT_COST * dropped, -dropped)
        self._emptied(event_type)

    def _emptied(self, event_type: str) -> None:
        log, full = self._logs[event_type]
        del full[event_type]
        self._empty[event_type] = log
        self._grew(-LOG_COST, 0)

    def _forget(self) -> None:
        """Forget the type that lost its events longest ago; if all have events, the one published longest ago."""
        if not self._empty:
            oldest = self._oldest()
            assert oldest is not None
            self._clear(oldest, "types")
        event_type, _ = self._empty.popitem(last=False)
        del self._logs[event_type]
        self._metrics.history_types -= 1
        self._grew(-TYPE_COST, 0)
        self._timeline = self._new_timeline()
