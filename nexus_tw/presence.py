"""Presence: which connections act for which agent id, and the `agent.status` event when the first comes or the last goes.

A connection acts for an agent once it has registered or sent telemetry under its id, until it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import msgspec
from twisted.internet.interfaces import IReactorTime

from nexus_tw.errors import REPLACED, NexusError
from nexus_tw.interfaces import Peer
from nexus_tw.settings import Limits
from nexus_tw.spread import Spread
from nexus_tw.times import Timestamps
from nexus_tw.topics import check_name

Announce = Callable[[str, bytes], None]
"""Publishes an event of the server's own: its type and its JSON. Does not raise."""


class AgentStatus(msgspec.Struct, rename="camel", gc=False):
    """`agent.status`: `{agentId, status: online or offline, timestamp}`."""

    agent_id: str
    status: Literal["online", "offline"]
    timestamp: str


class Presence:
    """Knows who is here. Every peer given to it must be given to `gone` in the end, and never again after that."""

    def __init__(self, announce: Announce, clock: IReactorTime, limits: Limits, spread: Spread) -> None:
        self._limits = limits
        self._spread = spread
        self._announce = announce
        self._clock = clock
        self._timestamps = Timestamps()
        # Dictionaries for their order: what is told, and when, is the same in every run.
        self._ids: dict[Peer, dict[str, None]] = {}
        self._peers: dict[str, dict[Peer, None]] = {}
        self._registered: dict[str, Peer] = {}

    def acts(self, peer: Peer, agent_id: str) -> bool:
        """The connection did something as this agent, whose id is a name; whether it now acts for it.

        Past `limits.agents` ids of one connection it does not: a gateway for more agents loses none of their telemetry,
        but those beyond are not seen as online. Called with every telemetry message: when nothing changes it costs two
        look-ups.
        """
        ids = self._ids.get(peer)
        if ids is None:
            ids = self._ids[peer] = {}
        elif agent_id in ids:
            return True
        if 0 < self._limits.agents <= len(ids):
            return False
        ids[agent_id] = None
        peers = self._peers.get(agent_id)
        if peers is not None:
            peers[peer] = None
        else:
            self._peers[agent_id] = {peer: None}
            self._tell(agent_id, "online")
        return True

    def registers(self, peer: Peer, agent_id: str, explicit: bool) -> Peer | None:
        """The connection will execute commands as this agent; raises `invalid_message` for an id that is no name, and
        `limit_exceeded` past `limits.agents` ids, and then nothing has changed.

        An `explicit` id belongs to whoever registered it last: the connection that held it until now is closed, and
        returned so that what it was executing can be given up. One that only sends telemetry under the id may stay.
        """
        check_name(agent_id, "agentId")
        if not self.acts(peer, agent_id):
            raise NexusError("limit_exceeded", f"One connection cannot act for more than {self._limits.agents} agents")
        if not explicit:
            return None
        older = self._registered.get(agent_id)
        self._registered[agent_id] = peer
        if older is None or older is peer:
            return None
        older.close(REPLACED)
        return older

    def holder(self, agent_id: str) -> Peer | None:
        """Return the connection that has registered under this explicit id."""
        return self._registered.get(agent_id)

    def gone(self, peer: Peer) -> None:
        """The connection has ended; one that never acted for anybody may be given too.

        If it acted for many, it is forgotten little by little: meanwhile some of them are still online.
        """
        ids = self._ids.pop(peer, None)
        if ids:
            self._spread.work(self._leave(peer, ids))

    def _leave(self, peer: Peer, ids: dict[str, None]) -> Iterator[None]:
        for agent_id in ids:
            if self._registered.get(agent_id) is peer:
                del self._registered[agent_id]
            peers = self._peers[agent_id]
            del peers[peer]
            if not peers:
                del self._peers[agent_id]
                self._tell(agent_id, "offline")
            yield

    def peers(self, agent_id: str) -> list[Peer]:
        """The connections that act for this agent, the longest there first; empty when it is offline."""
        return list(self._peers.get(agent_id, ()))

    def agents(self) -> list[str]:
        """The ids of all agents that are online, the longest there first."""
        return list(self._peers)

    def _tell(self, agent_id: str, status: Literal["online", "offline"]) -> None:
        timestamp = self._timestamps.text(self._clock.seconds())
        self._announce("agent.status", msgspec.json.encode(AgentStatus(agent_id, status, timestamp)))
