"""Publishes and reads retained events."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from nexus_tw.interfaces.plugins import IBus, RetainedEvent
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import EventMetadata, encode_metadata
from nexus_tw.model.positions import Position
from tests.bus.recording import pattern, placed


def asked(publication: int, account: str = "somebody") -> bytes:
    """Return the metadata of an event that is to be retained."""
    return encode_metadata(EventMetadata(publication, retain=account))


async def retain(bus: IBus, event_type: str, data: bytes = b"1", publication: int = 7) -> RetainedEvent:
    """Publish an event that is to be retained. Return what is expected of it."""
    metadata = asked(publication)
    at = await placed(bus, event_type, data, metadata)
    assert at is None or isinstance(at, Position), at
    return RetainedEvent(event_type, data, metadata, at)


async def answer(bus: IBus, text: str) -> Any:
    done: Deferred[Any] = Deferred()
    assert bus.retained is not None
    bus.retained.get(pattern(text), done.callback)
    return await done


async def found(bus: IBus, text: str = "**") -> list[RetainedEvent]:
    events = await answer(bus, text)
    assert not isinstance(events, NexusError), events
    return list(events)
