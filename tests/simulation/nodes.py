"""A node as a process: a clock, a bus, sessions."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from nexus_tw.interfaces.sessions import Link, Session
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import History
from tests.simulation.bus import SimulatedBus
from tests.simulation.clock import NodeClock, Time
from tests.simulation.plan import Plan
from tests.simulation.server import Server

if TYPE_CHECKING:
    from tests.simulation.connection import Connection


class Core:
    """What a node is made of: gives sessions."""

    def session(self, link: Link, principal: Principal) -> Session:
        raise NotImplementedError

    def settled(self) -> None:
        """All is quiet. Raises `Violation` where the node holds on to what it does not need any more."""


MakeCore = Callable[[SimulatedBus, NodeClock, Random, History, float], Core]


class Node:
    """From its start to its death."""

    def __init__(
        self, number: int, life: int, time: Time, server: Server, chance: Random, plan: Plan, core: MakeCore
    ) -> None:
        """`life` makes its name another one than that of any node before it."""
        self.number = number
        self.troubled_at = -math.inf  # when it last stood still, or its link was broken
        self.clock = NodeClock(time)
        self.bus = SimulatedBus(f"node-{number}-{life}", self.clock, time, server, chance, plan.delay, plan.labour is not None)
        self.connections: dict[Connection, None] = {}
        self.core = core(self.bus, self.clock, chance, plan.history, plan.labour.grace if plan.labour else 0.0)

    def session(self, link: Link, principal: Principal) -> Session:
        return self.core.session(link, principal)

    def away_since(self, when: float) -> bool:
        """Whether the bus was away at any time since."""
        return not self.bus.available or self.bus.up_since > when

    @property
    def out_of_touch(self) -> bool:
        """Whether it cannot do now what the others tell it."""
        return self.clock.stopped or not self.bus.available

    def die(self) -> None:
        self.clock.die()
        if self.bus.link is not None:
            self.bus.link.cut()

    def __repr__(self) -> str:
        return f"node {self.number}"
