"""A realm: one world of events, commands and agents, and the verbs by which sessions act in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from nexus_tw import messages
from nexus_tw.broker import Broker
from nexus_tw.dealer import Dealer
from nexus_tw.interfaces import Fail, Peer
from nexus_tw.presence import Presence
from nexus_tw.sessions.verbs import CallReply
from nexus_tw.telemetry import Telemetry


class Realm:
    """Provides `nexus_tw.sessions.verbs.Verbs`."""

    def __init__(self, broker: Broker, dealer: Dealer, telemetry: Telemetry, presence: Presence) -> None:
        self.broker = broker
        self.dealer = dealer
        self.telemetry = telemetry
        self.presence = presence

    def subscribe(
        self,
        peer: Peer,
        events: list[str],
        filters: dict[str, Any] | None,
        recover: bool,
        ok: Callable[[], None],
        fail: Fail,
    ) -> None:
        self.broker.subscribe(peer, events, filters, recover, ok, fail)

    def unsubscribe(self, peer: Peer, events: list[str], ok: Callable[[], None]) -> None:
        self.broker.unsubscribe(peer, events, ok)

    def publish(self, peer: Peer, event_type: str, data: bytes, ok: Callable[[], None], fail: Fail) -> None:
        self.broker.publish(peer.principal, event_type, data, ok, fail)

    def submit(
        self, peer: Peer, agent_id: str, metrics: Raw, timestamp: str | None, ok: Callable[[int], None], fail: Fail
    ) -> None:
        if self.telemetry.submit(peer.principal, agent_id, metrics, timestamp, ok, fail):
            self.presence.acts(peer, agent_id)

    def call(self, peer: Peer, request: messages.Command, reply: CallReply) -> None:
        self.dealer.call(peer.principal, request, reply)

    def cancel(self, peer: Peer, command_id: str, reply: CallReply) -> None:
        self.dealer.cancel(peer.principal, command_id, reply)

    def register(self, peer: Peer, commands: list[str], agent_id: str | None) -> None:
        self.dealer.register(peer, commands, agent_id)

    def unregister(self, peer: Peer, commands: list[str]) -> None:
        self.dealer.unregister(peer, commands)

    def progress(self, peer: Peer, message: messages.Progress) -> None:
        self.dealer.progress(peer, message)

    def result(self, peer: Peer, message: messages.Result) -> None:
        self.dealer.result(peer, message)

    def gone(self, peer: Peer) -> None:
        self.broker.gone(peer)
        self.dealer.lost(peer)
        self.presence.gone(peer)
