"""Retained events, for those who subscribe (WAMP: event retention)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nexus_tw.interfaces.plugins import IBus, RetainedEvent
from nexus_tw.interfaces.realm import Placed
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event, Recipient
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position


def find_retained(
    bus: IBus, reader: Recipient, pattern: Pattern, placed: Placed, done: Callable[[Sequence[Event]], None]
) -> None:
    """Call `done` with the retained events of the types that the pattern selects, for a reader whose subscription began there.

    Left out are events after that, which it gets live, those whose rule does not admit it, and those that cannot be decoded.
    While the bus is away there are none.
    """
    positions = placed.positions or {}
    if bus.retained is None:
        done(())
        return

    def found(retained: list[RetainedEvent] | NexusError) -> None:
        events = [] if isinstance(retained, NexusError) else [Event.arrived(*each) for each in retained]
        done([event for event in events if event is not None and not _follows(event, positions) and _admits(event, reader)])

    bus.retained.get(pattern, found)


def _follows(event: Event, positions: Mapping[str, Position]) -> bool:
    """Return whether the event is after these positions."""
    begun = positions.get(event.type)
    if begun is None or event.position is None:
        return False
    return event.position.epoch == begun.epoch and event.position.offset > begun.offset


def _admits(event: Event, reader: Recipient) -> bool:
    rule = None if event.metadata is None else event.metadata.rule
    return rule is None or rule.admits(reader)
