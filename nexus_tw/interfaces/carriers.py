"""Carriers: buses inside one process, which pass an event on with its decoded value and metadata.

Another bus transports bytes, which each node decodes. This seam is internal: a bus of an operator's own needs `IBus` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from zope.interface import Interface

if TYPE_CHECKING:
    from nexus_tw.model.errors import NexusError
    from nexus_tw.model.events import Event, EventMetadata
    from nexus_tw.model.payloads import Payload
    from nexus_tw.model.positions import Position


@runtime_checkable
class EventListener(Protocol):
    """A `BusListener` that takes such events."""

    def carried(self, event: Event) -> None:
        """Take an event of a subscribed type, in the place of `BusListener.event`."""


class ICarrier(Interface):
    """The methods of such a bus in addition to `IBus`. Both ways of publishing share one order."""

    def carry(
        event_type: str,
        payload: Payload,
        metadata: EventMetadata | None,
        done: Callable[[Position | NexusError | None], None],
    ) -> None:
        """Publish like `IBus.publish`. Listeners that are no `EventListener` get the event as bytes."""
