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
        pass  # subscribers are told of missed events once the bus is back

    def restored(self) -> None:
        # Gaps first: a queued event must not arrive before the notice that earlier ones are missing.
        self._nodes.restored()
        self._arrivals.gap_anywhere()
        self._publications.restored()
