"""Publish and subscribe of one realm, on a bus under the test's control."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.task import Clock

from nexus_tw.interfaces.realm import SubscribeReply, SubscribeRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import EventMetadata, encode_metadata
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import History, Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.protocols.wamp.uris import pattern_of
from nexus_tw.pubsub.listener import Listener
from nexus_tw.pubsub.publishing import Publications
from nexus_tw.pubsub.service import PubSub
from nexus_tw.runtime.spread import Spread
from tests.fakes import HandBus
from tests.fleet.pretend import alone
from tests.recording import RecordingPeer


class World:
    """Publish and subscribe with their hub, on a bus under the test's control. `said` has all calls of callbacks, in order."""

    def __init__(self, **limits: int) -> None:
        self.bus = HandBus()
        self.metrics = Metrics()
        self.waiting: list[Callable[[], None]] = []
        self.clock = Clock()
        self.clock.advance(1.5)
        self.gaps: list[str] = []
        self.roster = Roster()
        self.limits = Limits(**limits)
        pubsub = PubSub(
            self.bus,
            alone(),
            self.waiting.append,
            self.clock,
            Spread(self.clock),
            self.limits,
            self.metrics,
            History(),
            self.roster,
            tuple,
        )
        self.hub = pubsub.hub
        self.cursors = pubsub.cursors
        self.subscriptions = pubsub.subscriptions
        self.arrivals = pubsub.arrivals
        self.publications = Publications(self.bus, self.limits, self.metrics, self.gaps.append)
        self.listener = Listener(self.cursors, self.publications, pubsub.nodes, pubsub.reconciler)
        self.said: list[Any] = []

    def subscribe(self, peer: RecordingPeer, *events: str, name: str = "", recover: bool = False, **filters: Any) -> None:
        name = name or ",".join(events)
        request = SubscribeRequest(events, filters or None, {"a": "e:1"} if recover else None)
        reply = SubscribeReply(lambda _placed: self.said.append(name), self.failing(name))
        self.subscriptions.subscribe(peer, peer.principal, request, reply)

    def match(self, peer: RecordingPeer, uri: str, match: str, rights: Principal | None = None) -> Pattern:
        """Subscribe by one of WAMP's match policies."""
        pattern = pattern_of(uri, match)
        reply = SubscribeReply(lambda _placed: self.said.append(uri), self.failing(uri))
        self.subscriptions.subscribe(peer, rights or peer.principal, SubscribeRequest((pattern,)), reply)
        return pattern

    def unsubscribe(self, peer: RecordingPeer, *events: str, name: str = "") -> None:
        self.subscriptions.unsubscribe(peer, list(events), lambda: self.said.append(name or "-" + ",".join(events)))

    def publish(self, who: Principal, event_type: str, data: bytes = b"{}", metadata: EventMetadata | None = None) -> None:
        payload = Payload.of_value(data)
        self.publications.publish(
            who, event_type, payload, lambda _position: self.said.append("published"), self.failing("publish"), metadata
        )

    def failing(self, name: str) -> Callable[[NexusError], None]:
        return lambda error: self.said.append((name, error.code, error.message))

    def event(self, event_type: str, data: bytes = b"{}", metadata: EventMetadata | bytes = b"") -> None:
        encoded = encode_metadata(metadata) if isinstance(metadata, EventMetadata) else metadata
        self.cursors.event(event_type, data, encoded)
        self.turn()

    def turn(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()

    def told(self, peer: RecordingPeer) -> list[Any]:
        """Return what the peer has received: event lines as text, other messages decoded."""
        lines = b"".join(peer.delivered).splitlines()
        return [msgspec.json.decode(line) if line.startswith(b"{") else line.decode() for line in lines]


def continuity(event_type: str) -> dict[str, Any]:
    return {"type": "continuity", "eventType": event_type, "recovered": False}
