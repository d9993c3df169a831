"""Arrivals: passes events and notices of gaps from the bus to the hub.

The bus is the only way into the hub, so that one node behaves like many, and no event arrives twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.events import Event, EventMetadata, Rule, new_publication_id
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.notices import ContinuityNotice
from nexus_tw.model.payloads import Payload
from nexus_tw.model.positions import Position
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.groups import Subscriber
from nexus_tw.pubsub.hub import Hub

BROADCAST: Final = "nexus.broadcast"  # the topic of broadcasts, for clients that do not get them without a subscription
CONTINUITY: Final = "nexus.continuity"  # the topic of gaps, for clients whose dialect has no message for them


class Arrivals:
    """Passes what arrives from the bus to the subscribers on this node."""

    def __init__(self, hub: Hub, clients: Mapping[Peer, Subscriber], roster: Roster, metrics: Metrics) -> None:
        """`clients` has the place of each subscribed peer in the hub."""
        self._hub = hub
        self._clients = clients
        self._roster = roster
        self._metrics = metrics

    def event(self, event_type: str, data: bytes, metadata: bytes, position: Position | None = None) -> None:
        """Deliver an event, which is the next of its type."""
        if self._hub.wanted(event_type):
            event = Event.arrived(event_type, data, metadata, position)
            if event is None:
                self._metrics.events_dropped["about"] += 1
                self.gap(event_type, position)
            else:
                self._hub.event(event, self._excluded(event))

    def carried(self, event: Event) -> None:
        """Deliver an event that was published in this process, with its decoded value."""
        if self._hub.wanted(event.type):
            self._hub.event(event, self._excluded(event))
            event.payload.forget()  # the gathered frames live longer, and need only its bytes

    def _excluded(self, event: Event) -> list[Subscriber]:
        """Return the subscribers on this node that the event's rule excludes by session id."""
        if event.metadata is None or event.metadata.rule is None:
            return []
        peers = map(self._roster.get, event.metadata.rule.exclude)
        clients = [self._clients.get(peer) for peer in peers if peer is not None]
        return [client for client in clients if client is not None]

    def gap(self, event_type: str, position: Position | None = None) -> None:
        """Tell the subscribers on this node that events of this type were lost, up to this position if there is one."""
        self._tell(self._hub.interested(event_type), event_type, position)

    def complete(self, event_type: str, position: Position, filtered: bool = False) -> None:
        """Tell the subscribers of this type that no event is missing up to this position; with `filtered`, only those whose
        filters may have excluded the last events."""
        notice = ContinuityNotice(event_type, position, recovered=True)
        if filtered:
            self._hub.tell_filtered(event_type, lambda encoding: encoding.notice(notice))
        else:
            self._hub.tell(self._hub.interested(event_type), lambda encoding: encoding.notice(notice))

    def gap_under(self, pattern: Pattern) -> None:
        """Tell the subscribers of exactly this pattern that events of any type that it selects may have been lost."""
        self._tell((pattern,), pattern.text, None)

    def _tell(self, patterns: Iterable[Pattern], event_type: str, position: Position | None) -> None:
        notice = ContinuityNotice(event_type, position)
        self._hub.tell(patterns, lambda encoding: encoding.notice(notice))
        if self._hub.wanted(CONTINUITY):
            at = {} if position is None else {"position": position.text}
            data = {"eventType": event_type, **at, "recovered": False}
            self._hub.event(Event(CONTINUITY, Payload.of_value(msgspec.json.encode(data))))

    def broadcast(self, data: bytes, told: Collection[Peer]) -> int:
        """Deliver a broadcast to its subscribers on this node, except those in `told`. Return their number."""
        buckets = map(self._hub.bucket, self._hub.interested(BROADCAST))
        subscribers = {peer for bucket in buckets if bucket is not None for peer in bucket.peers()}
        others = subscribers.difference(told)
        if others:
            rule = Rule(exclude=[peer.number for peer in subscribers - others])
            event = Event(BROADCAST, Payload.of_value(data), EventMetadata(new_publication_id(), rule=rule))
            self._hub.event(event, self._excluded(event))
        return len(others)

    def gap_anywhere(self) -> None:
        """Tell every subscriber on this node that events of any type may have been lost."""
        for pattern in self._hub.patterns():
            self.gap_under(pattern)
