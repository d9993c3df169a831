"""What a realm hears from its bus, handed to the part that it is for."""

from __future__ import annotations

from nexus_tw.pubsub.cluster import Nodes
from nexus_tw.pubsub.publishing import Publications
from nexus_tw.pubsub.subscribing import Subscriptions


class Listener:
    """Provides `nexus_tw.interfaces.plugins.BusListener`."""

    def __init__(self, subscriptions: Subscriptions, publications: Publications, nodes: Nodes) -> None:
        self.event = subscriptions.event
        self.message = nodes.message
        self._subscriptions = subscriptions
        self._publications = publications
        self._nodes = nodes

    def lost(self) -> None:
        pass  # what is missed from now on is told when the bus is back

    def restored(self) -> None:
        # First the gaps: an event that waited must not come before the news that earlier ones are missing.
        self._nodes.restored()
        self._subscriptions.gap_anywhere()
        self._publications.restored()
