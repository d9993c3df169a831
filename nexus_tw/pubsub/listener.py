"""The listener of a realm's bus: passes events, messages and state changes to the responsible parts."""

from __future__ import annotations

from nexus_tw.pubsub.cluster import Nodes
from nexus_tw.pubsub.cursors import Cursors
from nexus_tw.pubsub.publishing import Publications
from nexus_tw.pubsub.reconciling import Reconciler


class Listener:
    """Implements `nexus_tw.interfaces.plugins.BusListener` and `nexus_tw.interfaces.carriers.EventListener`."""

    def __init__(self, cursors: Cursors, publications: Publications, nodes: Nodes, reconciler: Reconciler) -> None:
        self.event = cursors.event
        self.carried = cursors.carried
        self.message = nodes.message
        self._publications = publications
        self._nodes = nodes
        self._reconciler = reconciler

    def lost(self) -> None:
        self._nodes.lost()
        self._reconciler.lost()

    def restored(self) -> None:
        self._reconciler.restored(self._caught_up)

    def _caught_up(self) -> None:
        # Gaps after what was missed and before what waited: they are told as behind the one, and the other follows them.
        self._nodes.restored()
        self._publications.restored()
