"""The listener of a realm's bus: passes events, messages and state changes to the responsible parts."""

from __future__ import annotations

from nexus_tw.pubsub.arriving import Arrivals
from nexus_tw.pubsub.cluster import Nodes
from nexus_tw.pubsub.publishing import Publications


class Listener:
    """Implements `nexus_tw.interfaces.plugins.BusListener` and `nexus_tw.interfaces.carriers.EventListener`."""

    def __init__(self, arrivals: Arrivals, publications: Publications, nodes: Nodes) -> None:
        self.event = arrivals.event
        self.carried = arrivals.carried
        self.message = nodes.message
        self._arrivals = arrivals
        self._publications = publications
        self._nodes = nodes

    def lost(self) -> None:
        pass  # what is missed from now on is told when the bus is back

    def restored(self) -> None:
        # First the gaps: an event that waited must not come before the news that earlier ones are missing.
        self._nodes.restored()
        self._arrivals.gap_anywhere()
        self._publications.restored()
