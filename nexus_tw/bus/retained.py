"""Retained events (WAMP: event retention): the last event of each type that its publisher asked to retain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from nexus_tw.bus.memory_history import away
from nexus_tw.interfaces.plugins import IRetained, RetainedEvent
from nexus_tw.model.budgets import Shelf
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.settings import Limits

TYPES: Final = 2048  # that have a retained event
BYTES: Final = 16777216  # of all retained events of a realm
COST: Final = 512  # bytes that each counts in addition to its data and metadata


class Retained:
    """The retained events of a realm. If there is no room, the oldest of a publisher with more than its share goes first, a
    quarter of `TYPES` or `BYTES`; else the oldest of all."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._shelf: Shelf[str, RetainedEvent] = Shelf(Limits(share=0.25), TYPES, BYTES)

    def keep(self, event: RetainedEvent, account: str) -> None:
        """Keep this event of a type instead of the one before, on the account of its publisher."""
        metrics, shelf = self._metrics, self._shelf
        count, size = shelf.taken
        evicted = shelf.put(event.event_type, event, account, 1, len(event.data) + len(event.metadata) + COST)
        metrics.retained_evicted += len(evicted)
        # Other realms count here, too.
        metrics.retained_events += shelf.taken[0] - count
        metrics.retained_bytes += shelf.taken[1] - size

    def find(self, pattern: Pattern) -> list[RetainedEvent]:
        """Return those of the types that the pattern selects."""
        if pattern.exact:
            event = self._shelf.get(pattern.text)
            return [] if event is None else [event]
        return [event for event in self._shelf if pattern.matches(event.event_type) and pattern.selects(event.event_type)]


@implementer(IRetained)
class MemoryRetained:
    """Answers one node."""

    def __init__(self, retained: Retained, available: Callable[[], bool]) -> None:
        """`available` says whether the node's bus is."""
        self._retained = retained
        self._available = available

    def get(self, pattern: Pattern, done: Callable[[list[RetainedEvent] | NexusError], None]) -> None:
        done(self._retained.find(pattern) if self._available() else away())
