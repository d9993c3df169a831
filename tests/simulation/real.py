"""The real core: a realm, and JSON sessions in it."""

from __future__ import annotations

from itertools import count
from random import Random

from nexus_tw.interfaces.sessions import Link, Session
from nexus_tw.model import settings
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.policy import Principal
from nexus_tw.protocols.native.session import JsonDialect
from nexus_tw.realm.realm import Realm
from nexus_tw.runtime.turn import Turn
from tests.simulation.bus import SimulatedBus
from tests.simulation.clock import NodeClock
from tests.simulation.judge import Violation
from tests.simulation.nodes import Core


class RealCore(Core):
    """What `nexus_tw.app.server` makes of a realm, without sockets."""

    def __init__(
        self, bus: SimulatedBus, clock: NodeClock, chance: Random, history: settings.History, grace: float
    ) -> None:
        self._metrics = Metrics()
        limits = settings.Limits()
        numbers = count(1)
        end_of_turn = Turn(clock).add
        realm = Realm(
            "nexus",
            settings.Realm(),
            bus,
            end_of_turn,
            clock,
            chance,
            limits,
            self._metrics,
            {},
            lambda: (),
            history,
            grace=grace,
        )
        self._dialect = JsonDialect(
            realm, settings.Heartbeat(), limits, self._metrics, clock.seconds, lambda: str(next(numbers)), lambda: 1000
        )
        bus.start(realm.listener)
        realm.start()

    def session(self, link: Link, principal: Principal) -> Session:
        return self._dialect.session(link, principal, "127.0.0.1")

    def settled(self) -> None:
        if self._metrics.recovery_buffered:
            raise Violation("bounds", f"{self._metrics.recovery_buffered} bytes are still held for somebody")
