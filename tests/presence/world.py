"""Presence without a fleet: its node tells what it announces."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock

from nexus_tw.bus.memory_attendance import MemoryAttendance
from nexus_tw.model.attendance import STATUS, Attendance
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import Limits
from nexus_tw.presence.agents import Announce, Presence
from nexus_tw.presence.holding import Surroundings
from nexus_tw.runtime.spread import Spread


def presence_alone(
    announce: Announce,
    clock: Clock,
    limits: Limits,
    metrics: Metrics,
    spread: Spread,
    grace: float = 0.0,
    missed: Callable[[], None] = lambda: None,
) -> Presence:
    """Return the presence of a node without others."""
    attendance = Attendance(lambda told: announce(STATUS, *told), clock.seconds)
    own = MemoryAttendance(attendance, lambda: True, lambda: "epoch")
    around = Surroundings(lambda: own, lambda: "node", lambda: False, missed)
    return Presence(around, _nobody, clock, grace, limits, metrics, spread)


def _nobody(agent_id: str, former: object, number: int) -> None:
    raise AssertionError("there is no other node")
