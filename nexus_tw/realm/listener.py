"""The listener of a realm's bus: events and what concerns them go to publish and subscribe, mail between nodes to the fleet."""

from __future__ import annotations

from collections.abc import Callable

from nexus_tw.fleet.envelopes import MARK
from nexus_tw.fleet.fleet import BusFleet
from nexus_tw.pubsub.listener import Listener


class RealmListener:
    """Implements `nexus_tw.interfaces.plugins.BusListener` and `nexus_tw.interfaces.carriers.EventListener`."""

    def __init__(self, events: Listener, fleet: BusFleet, restored: Callable[[], None]) -> None:
        """`restored` is called before anything else that follows from the return of the bus."""
        self.event = events.event
        self.carried = events.carried
        self._events = events
        self._fleet = fleet
        self._restored = restored

    def message(self, body: bytes) -> None:
        if body.startswith(MARK):
            self._fleet.message(body)
        else:
            self._events.message(body)

    def lost(self) -> None:
        self._fleet.lost()
        self._events.lost()

    def restored(self) -> None:
        self._restored()
        self._fleet.restored()
        self._events.restored()
