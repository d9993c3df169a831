"""What all nodes decide together, as a node asks the model of Redis about it: roll, claims, ledger and attendance.

The model keeps them in the implementations of the memory bus; here they get the delays, losses and timelines of a link.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from zope.interface import implementer

from nexus_tw.interfaces.ledger import Entry, ILedger, Write
from nexus_tw.interfaces.plugins import Beats, IAttendance, IClaims, IRoll
from nexus_tw.model.attendance import Sure, Told
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern

if TYPE_CHECKING:
    from tests.simulation.server import Data, Server

Done = Callable[[Any], None]


class Asks(Protocol):
    """A node's bus."""

    timeline: str

    def ask(self, what: Callable[[str], Any], done: Done) -> None: ...


class _Shared:
    """Asks about the data that the server has when the question arrives there."""

    def __init__(self, bus: Asks, server: Server) -> None:
        self._bus = bus
        self._server = server

    def _ask(self, what: Callable[[Data], Any], done: Done) -> None:
        def at_server(timeline: str) -> Any:
            self._server.check(timeline)
            return what(self._server.data)

        self._bus.ask(at_server, done)


@implementer(IRoll)
class SimulatedRoll(_Shared):
    """The roll; its epoch is the timeline."""

    def beat(self, node: str, known: Sequence[str], done: Callable[[Beats | NexusError], None]) -> None:
        def beat(data: Data) -> Beats:
            beats = data.roll.beat(node, known)
            assert beats is not None
            return beats._replace(epoch=data.timeline)

        self._ask(beat, done)

    def bury(self, node: str, beats: int | None, heir: str, done: Done) -> None:
        self._ask(lambda data: data.roll.bury(node, beats, heir), done)

    def settle(self, node: str, heir: str, done: Done) -> None:
        self._ask(lambda data: data.roll.settle(node, heir), done)

    def leave(self, node: str, done: Done) -> None:
        self._ask(lambda data: data.roll.leave(node), done)


@implementer(IClaims)
class SimulatedClaims(_Shared):
    """The claims."""

    def claim(self, pattern: Pattern, invoke: str, node: str, done: Done) -> None:
        self._ask(lambda data: data.claims.claim(pattern, invoke, node), done)

    def release(self, pattern: Pattern, node: str, done: Done) -> None:
        self._ask(lambda data: data.claims.release(pattern.text, node), done)

    def forget(self, node: str, done: Done) -> None:
        self._ask(lambda data: data.claims.forget(node), done)


@implementer(ILedger)
class SimulatedLedger(_Shared):
    """The ledger."""

    lasting = tells = True
    notes = False

    @property
    def epoch(self) -> str:
        return self._bus.timeline

    def take(self, entry: Entry, former: str, done: Done) -> None:
        self._ask(lambda data: data.ledger.take(entry, former), done)

    def write(self, write: Write, done: Done) -> None:
        self._ask(lambda data: data.ledger.write(write), done)

    def drop(self, command_id: str, node: str, done: Done) -> None:
        self._ask(lambda data: data.ledger.drop(command_id, node), done)

    def find(self, command_id: str, done: Done) -> None:
        self._ask(lambda data: data.ledger.find(command_id), done)

    def inherit(self, left: str | None, node: str, most: int, done: Done) -> None:
        assert left is not None, "on a shared bus each node has one heir"
        self._ask(lambda data: data.ledger.inherit(left, node, most), done)


@implementer(IAttendance)
class SimulatedAttendance(_Shared):
    """The attendance; its epoch is the timeline."""

    @property
    def epoch(self) -> str:
        return self._bus.timeline

    def come(self, node: str, agent_id: str, sure: Sure, told: Told, done: Done) -> None:
        self._ask(lambda data: data.attendance.come(node, agent_id, sure, told), done)

    def go(self, node: str, agent_id: str, sure: Sure, told: Told, done: Done) -> None:
        self._ask(lambda data: data.attendance.go(node, agent_id, sure, told), done)

    def hold(self, node: str, agent_id: str, session: int, number: int, over: int, done: Done) -> None:
        self._ask(lambda data: data.attendance.hold(node, agent_id, session, number, over), done)

    def free(self, agent_id: str, session: int) -> None:
        self._ask(lambda data: data.attendance.free(agent_id, session), _ignored)

    def at(self, node: str, most: int, done: Done) -> None:
        self._ask(lambda data: data.attendance.at(node, most), done)

    def absent(self, done: Done) -> None:
        self._ask(lambda data: data.attendance.absent(), done)


def _ignored(_answer: object) -> None:
    pass
