"""Fellows: what the nodes tell each other of agents, and what is left of the agents of a node that is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.plugins import IAttendance
from nexus_tw.model.attendance import Hold, Outcome
from nexus_tw.model.errors import NexusError
from nexus_tw.presence.agents import Presence
from nexus_tw.presence.holding import SOMEBODY

PART: Final = "agents"
AT_ONCE: Final = 64  # agents of a node that is gone, in one portion
ORDERS: Final = 1024  # the last ones to close connections, which are told again to a node that joins
RETRY: Final = 1.0  # s until the next attempt, if the bus has not taken a portion
SILENCE: Final = 6.0  # s for which a node had been silent, at least, when the others gave it up


class Replaced(msgspec.Struct, tag="replaced", tag_field="type", gc=False):
    """The session's registration of an agent has been replaced by one with this number; with session 0, any earlier one."""

    agent: str
    session: int
    number: int


class Leaves(msgspec.Struct, tag="leaves", tag_field="type", gc=False):
    """The node is about to leave, and its clients move to others."""


_DECODER: Final = msgspec.json.Decoder(Replaced | Leaves)


class Fellows:
    """Implements `nexus_tw.interfaces.fleet.Part`."""

    _log = Logger()

    def __init__(
        self,
        fleet: Fleet,
        presence: Presence,
        attendance: Callable[[], IAttendance],
        clock: IReactorTime,
        grace: float,
    ) -> None:
        self._fleet = fleet
        self._presence = presence
        self._attendance = attendance
        self._clock = clock
        self._grace = grace
        self._seen: dict[str, bool] = {}  # members, and whether they have said that they leave
        self._orders: dict[tuple[str, str], bytes] = {}  # by node and agent; oldest first
        self._estates: dict[str, IDelayedCall | None] = {}  # nodes that are gone, and what waits for their next portion
        fleet.take_part(PART, self)

    def displaced(self, agent_id: str, former: Hold, number: int) -> None:
        """Have the node close the connection that held an agent until this node took it over; if it is unknown, have all."""
        body = msgspec.json.encode(Replaced(agent_id, former.session, number))
        if former is SOMEBODY:
            self._fleet.tell(None, PART, body)
            return
        self._fleet.tell(former.node, PART, body)
        # It may be no member yet; or it knows this node no longer, which does not know that, and goes on under another name.
        self._orders.pop((former.node, agent_id), None)
        self._orders[former.node, agent_id] = body
        if len(self._orders) > ORDERS:
            del self._orders[next(iter(self._orders))]

    def drain(self) -> None:
        """Say that this node's agents move to others from now on, and may take the whole grace for that."""
        self._fleet.tell(None, PART, msgspec.json.encode(Leaves()))

    def stop(self) -> None:
        """Leave the rest of the estates to another node."""
        for waiting in self._estates.values():
            if waiting is not None and waiting.active():
                waiting.cancel()
        self._estates.clear()

    # --- Part

    def received(self, node: str, body: bytes) -> None:
        try:
            told = _DECODER.decode(body)
        except msgspec.DecodeError:
            self._log.warn("{node} has told something of agents that this node does not understand", node=node)
            return
        if isinstance(told, Leaves):
            self._seen[node] = True
        else:
            self._presence.replaced(told.agent, told.session, told.number)

    def joined(self, node: str) -> None:
        self._seen[node] = False
        for (former, _agent), body in self._orders.items():
            if former == node:
                self._fleet.tell(node, PART, body)

    def left(self, node: str, heir: bool) -> None:
        # A node that dies without a word is silent for some time before; its agents have spent their grace by then.
        leaves = self._seen.pop(node, True)
        if heir:
            release = self._fleet.hold(node)
            wait = self._grace if leaves else max(0.0, self._grace - SILENCE)
            self._estates[node] = self._clock.callLater(wait, self._portion, node, release)

    def fenced(self) -> None:
        """Nothing is done twice here: whoever registers an agent elsewhere replaces this node's connection."""

    def renewed(self) -> None:
        self._presence.attending.renewed()

    # --- estates

    def _portion(self, node: str, release: Callable[[], None]) -> None:
        """Take some agents from a node that is gone."""
        self._estates[node] = None

        def again(delay: float) -> None:
            if node in self._estates:
                self._estates[node] = self._clock.callLater(delay, self._portion, node, release)

        def listed(agents: list[str] | NexusError) -> None:
            if isinstance(agents, NexusError):
                again(RETRY)
                return
            if not agents:
                self._estates.pop(node, None)
                release()
                return
            left, failed = len(agents), False

            def taken(outcome: Outcome | NexusError) -> None:
                nonlocal left, failed
                left -= 1
                failed = failed or isinstance(outcome, NexusError)
                if not left:
                    again(RETRY if failed else 0)

            for agent_id in agents:
                self._presence.attending.depart(node, agent_id, "", "new", taken)

        self._attendance().at(node, AT_ONCE, listed)
