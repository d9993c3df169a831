"""One node, put together: every part is made here and handed what it needs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from random import SystemRandom
from typing import Any

from nexus_tw.auth import Authenticators
from nexus_tw.broker import Broker
from nexus_tw.dealer import Dealer
from nexus_tw.hub import Hub
from nexus_tw.interfaces import Handler, IBus, IStore
from nexus_tw.metrics import Metrics
from nexus_tw.nodes import Nodes
from nexus_tw.presence import Presence
from nexus_tw.realm import Realm
from nexus_tw.sessions.echo import EchoDialect
from nexus_tw.sessions.json import JsonDialect
from nexus_tw.settings import Settings
from nexus_tw.store import parse_duration
from nexus_tw.telemetry import Telemetry
from nexus_tw.transport.admission import Admission, Way
from nexus_tw.transport.api import Api
from nexus_tw.transport.connections import Connections
from nexus_tw.transport.door import Doors, reopen
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.http import Root, site
from nexus_tw.transport.status import Status
from nexus_tw.transport.turn import Turn
from nexus_tw.transport.websocket import Doorway

EVENTS = "/api/v1/events"
BODY_MESSAGES = 16  # a request's body may hold so many messages of the largest size


class Server:
    """A node: its core, and the factory (`doors`) for whatever it listens on."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        bus: IBus,
        store: IStore,
        authenticators: Authenticators,
        commands: Mapping[str, Handler],
        metrics: Metrics,
        descriptors: int,
    ) -> None:
        """`descriptors` is how many connections the process can hold."""
        self._bus = bus
        self._store = store
        self._drain = settings.drain
        self._started = False
        limits = settings.limits
        random = SystemRandom()

        turn = Turn(reactor)
        hub = Hub(turn.add, metrics)
        self.connections = Connections(reactor, limits, descriptors, random)
        self._nodes = Nodes(bus, reactor, self.connections.peers)
        broker = Broker(bus, hub, limits, metrics, self._nodes.tell_gap)
        self._nodes.broker = broker
        presence = Presence(broker.announce, reactor, limits)
        self.telemetry = Telemetry(
            store, broker.announce, reactor, metrics, limits, parse_duration(settings.store.retention, "store.retention")
        )
        dealer = Dealer(reactor, broker.announce, presence, commands, limits, metrics)
        realm = Realm(broker, dealer, self.telemetry, presence)

        dialect = JsonDialect(
            realm, settings.heartbeat, limits, metrics, reactor.seconds, lambda: secrets.token_urlsafe(12)
        )
        ways = {EVENTS: Way({None: dialect, "nexus.v1.json": dialect}, limits.message)}
        if settings.echo:
            ways["/echo"] = Way({None: EchoDialect()}, settings.echo_message)
        self._pulse = Pulse(reactor, settings.heartbeat, random)
        doorway = Doorway(
            reactor, turn, self._pulse, self.connections, limits, metrics, settings.receive_lane, settings.compression
        )
        admission = Admission(ways, authenticators, self.connections, settings.http, metrics, reactor, limits.auth)
        gauges: dict[str, Callable[[], float]] = {
            "connections": lambda: len(self.connections),
            "bus_available": lambda: bus.available,
            "ready": lambda: self.unready() is None,
        }
        status = Status(metrics, gauges, settings.http, self.unready)
        api = Api(broker, self._nodes, limits, reactor.seconds)
        later: list[Doors] = []
        root = Root({**status.routes(), **api.routes()}, admission, lambda request: reopen(later[0], request))
        self.doors = Doors(
            reactor,
            admission,
            doorway,
            site(root, reactor, limits.headers, BODY_MESSAGES * limits.message),
            limits.headers,
            limits.handshake,
        )
        later.append(self.doors)

    def unready(self) -> str | None:
        """Why this node should get no new clients; None where it should."""
        if self.connections.draining:
            return "shutting down"
        if not self._started:
            return "starting"
        if not self._bus.available:
            return "the event bus is away"
        return None

    async def start(self) -> None:
        """Opens store and bus; raises `ConfigError`. A bus that is away is not an error: it is tried for ever."""
        await self._store.start()
        await self._bus.start(self._nodes)
        self.telemetry.start()
        self._pulse.start()
        self._started = True

    async def drain(self) -> None:
        """Lets every client go, with what it sent acknowledged."""
        await self.connections.drain(self._drain, self.telemetry.settled)

    async def stop(self) -> None:
        """Ends what `start` began; the last clients are gone."""
        self._pulse.stop()
        await self.telemetry.stop()
        await self._bus.stop()
        await self._store.stop()
