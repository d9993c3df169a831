"""A bus under the control of the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nexus_tw.interfaces.plugins import BusListener, IBus, IHistory
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position

AWAY = NexusError("bus_unavailable", "The event bus is away")


@implementer(IBus)
class HandBus:
    """Remembers what it is asked and holds it against the rules of `IBus`. What is published comes back only by `event`."""

    def __init__(self, node: str = "node-1") -> None:
        self.node = node
        self.history: IHistory | None = None
        self.retained = None
        self.roll = None
        self.ledger = None
        self.attendance = None
        self.available = True
        self.confirms = True  # subscriptions stand at once
        self.claims = None
        self.takes = True  # publications and messages are taken at once
        self.calls: list[tuple[str, str]] = []  # subscribe or unsubscribe, and the pattern
        self.subscribed: set[str] = set()
        self.unconfirmed: list[tuple[str, Callable[[], None]]] = []
        self.published: list[tuple[str, bytes]] = []
        self.metadata: list[bytes] = []  # what goes with each of these
        self.untaken: list[Callable[[Position | NexusError | None], None]] = []
        self.sent: list[tuple[str | None, bytes]] = []
        self.unsent: list[Callable[[int | NexusError], None]] = []
        self.listener: BusListener | None = None

    def start(self, listener: BusListener) -> Deferred[None]:
        self.listener = listener
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.listener = None
        return succeed(None)

    def publish(
        self,
        event_type: str,
        data: bytes,
        done: Callable[[Position | NexusError | None], None],
        metadata: bytes = b"",
    ) -> None:
        if not self.available:
            done(AWAY)
            return
        self.published.append((event_type, data))
        self.metadata.append(metadata)
        if self.takes:
            done(None)
        else:
            self.untaken.append(done)

    def subscribe(self, pattern: Pattern, done: Callable[[], None]) -> None:
        assert pattern.text not in self.subscribed, "called twice without `unsubscribe` between"
        self.subscribed.add(pattern.text)
        self.calls.append(("subscribe", pattern.text))
        if self.confirms:
            done()
        else:
            self.unconfirmed.append((pattern.text, done))

    def unsubscribe(self, pattern: Pattern) -> None:
        assert pattern.text in self.subscribed, "what is not subscribed to cannot be unsubscribed"
        self.subscribed.remove(pattern.text)
        self.calls.append(("unsubscribe", pattern.text))

    def send(self, node: str | None, body: bytes, done: Callable[[int | NexusError], None]) -> None:
        if not self.available:
            done(AWAY)
            return
        self.sent.append((node, body))
        if self.takes:
            done(1)
        else:
            self.unsent.append(done)

    # --- what the test says

    def confirm(self, *texts: str) -> None:
        """These subscriptions stand now; with none given, all of them."""
        waiting, self.unconfirmed = self.unconfirmed, []
        for text, done in waiting:
            if not texts or text in texts:
                done()
            else:
                self.unconfirmed.append((text, done))


def _keeps_its_promise(bus: Any) -> None:
    verifyObject(IBus, bus)


_keeps_its_promise(HandBus())
