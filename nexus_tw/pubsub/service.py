"""Publish and subscribe of one realm on this node: creates and connects its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from twisted.internet.interfaces import IReactorTime

from nexus_tw.bus.bounds import Bounds
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import History, Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.arriving import Arrivals
from nexus_tw.pubsub.cluster import Nodes
from nexus_tw.pubsub.cursors import Cursors
from nexus_tw.pubsub.groups import Subscriber
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.listener import Listener
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.pubsub.publishing import Publications
from nexus_tw.pubsub.reading import Reads
from nexus_tw.pubsub.reconciling import Reconciler
from nexus_tw.pubsub.recorders import Recorders
from nexus_tw.pubsub.recovery import Recovery
from nexus_tw.pubsub.subscribing import Subscriptions
from nexus_tw.pubsub.watching import Watching
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall


class PubSub:
    """Events from publishers to the bus, and from the bus through cursors and hub to subscribers."""

    def __init__(
        self,
        bus: IBus,
        fleet: Fleet,
        end_of_turn: Callable[[Callable[[], None]], None],
        clock: IReactorTime,
        spread: Spread,
        limits: Limits,
        metrics: Metrics,
        history: History,
        roster: Roster,
        everybody: Callable[[], Iterable[Peer]],
    ) -> None:
        """`end_of_turn` calls its argument at the end of the reactor turn; `everybody` returns the peers that get
        broadcasts."""
        self.hub = Hub(end_of_turn, metrics, partial(wall, clock))
        self.watching = Watching(fleet, self.hub, roster, clock, metrics)
        self.meta = Meta(self.hub, self.watching)
        reads, recorders = Reads(bus, end_of_turn), Recorders(metrics)
        clients: dict[Peer, Subscriber] = {}
        self.arrivals = Arrivals(self.hub, clients, roster, metrics)
        self.cursors = Cursors(bus, self.hub, self.arrivals, reads, recorders, spread, clock, Bounds(history), metrics)
        recovery = Recovery(bus, self.cursors, reads, recorders, spread, clock, metrics)
        self.subscriptions = Subscriptions(
            bus, self.hub, clients, limits, metrics, self.meta, self.watching, self.cursors, recovery
        )
        self.nodes = Nodes(bus, clock, everybody, self.arrivals, self.cursors.gap)
        self.publications = Publications(bus, limits, metrics, self.nodes.tell_gap)
        self.reconciler = Reconciler(bus, self.hub, self.cursors, self.arrivals, history.everything)
        self.listener = Listener(self.cursors, self.publications, self.nodes, self.reconciler)
