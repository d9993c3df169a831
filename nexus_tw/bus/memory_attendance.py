"""`IAttendance` of a node on the memory bus: answers at once."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from nexus_tw.bus.memory_history import away
from nexus_tw.interfaces.plugins import IAttendance
from nexus_tw.model.attendance import Attendance, Held, Outcome, Sure, Told
from nexus_tw.model.errors import NexusError


@implementer(IAttendance)
class MemoryAttendance:
    """A node's access to the attendance that all nodes of a broker, or this one alone, keep."""

    def __init__(self, attendance: Attendance, available: Callable[[], bool], epoch: Callable[[], str]) -> None:
        """`available` says whether the node's bus is."""
        self._attendance = attendance
        self._available = available
        self._epoch = epoch

    @property
    def epoch(self) -> str:
        return self._epoch()

    def come(
        self, node: str, agent_id: str, sure: Sure, told: Told, done: Callable[[Outcome | NexusError], None]
    ) -> None:
        done(self._attendance.come(node, agent_id, sure, told) if self._available() else away())

    def go(
        self, node: str, agent_id: str, sure: Sure, told: Told, done: Callable[[Outcome | NexusError], None]
    ) -> None:
        done(self._attendance.go(node, agent_id, sure, told) if self._available() else away())

    def hold(
        self,
        node: str,
        agent_id: str,
        session: int,
        number: int,
        over: int,
        done: Callable[[Held | Outcome | NexusError], None],
    ) -> None:
        done(self._attendance.hold(node, agent_id, session, number, over) if self._available() else away())

    def free(self, agent_id: str, session: int) -> None:
        if self._available():
            self._attendance.free(agent_id, session)

    def at(self, node: str, most: int, done: Callable[[list[str] | NexusError], None]) -> None:
        done(self._attendance.at(node, most) if self._available() else away())

    def absent(self, done: Callable[[dict[str, float] | NexusError], None]) -> None:
        done(self._attendance.absent() if self._available() else away())
