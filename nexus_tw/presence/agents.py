"""Presence: the connections of this node that represent each agent id.

From its first `register` or valid `telemetry` for an agent until it closes, a connection represents that agent. What the fleet
hears of that is the business of `attending.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IReactorTime

from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.attendance import Hold
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import REPLACED, NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.multimap import Multimap
from nexus_tw.model.names import check_name
from nexus_tw.model.settings import Limits
from nexus_tw.presence.attending import Attending
from nexus_tw.presence.holding import Done, Surroundings, Vet
from nexus_tw.runtime.spread import Spread

Announce = Callable[[str, bytes, str], None]
"""Publishes an event of the server's own: its type, its JSON, and the account that caused it. Does not raise."""


class Presence:
    """Tracks which agents have connections. Every peer passed to it must finally be passed to `gone`, and never after that."""

    def __init__(
        self,
        around: Surroundings,
        displaced: Callable[[str, Hold, int], None],
        clock: IReactorTime,
        grace: float,
        limits: Limits,
        metrics: Metrics,
        spread: Spread,
    ) -> None:
        """`displaced` has another node close the connection that held an agent: see `Attending`. `grace` is in seconds."""
        self.attending = Attending(around, clock, grace, metrics, displaced, self._outdone)
        self.evict: Callable[[Peer], None] = _nothing  # ends what a replaced connection executes; set by the registrar
        self._limits = limits
        self._agents = Budget("agents", "agents_all", limits, metrics)
        self._spread = spread
        # Dictionaries, not sets, for a deterministic order of events.
        self._ids: dict[Peer, dict[str, None]] = {}
        self._peers: Multimap[str, Peer] = Multimap()
        self._registered: dict[str, Peer] = {}

    def __len__(self) -> int:
        """Return the number of agents that have connections on this node."""
        return len(self._peers)

    def acts(self, peer: Peer, agent_id: str) -> bool:
        """Have the connection represent this agent, whose id is a name. Return whether it does.

        It does not beyond `limits.agents` ids of one connection, or its subject's share of `limits.agents_all`: a gateway for
        more agents loses none of their telemetry, but those beyond are not seen as online. Called for all telemetry that was
        accepted: without a change the cost is three look-ups.
        """
        ids = self._ids.get(peer)
        acts = (ids is not None and agent_id in ids) or self._begins(peer, agent_id) is None
        if acts:
            self.attending.heard(agent_id)
        return acts

    def _begins(self, peer: Peer, agent_id: str) -> NexusError | None:
        """Have the connection represent one more agent. Return the error if it cannot."""
        ids = self._ids.get(peer, {})
        most = self._limits.agents
        if 0 < most <= len(ids):
            return NexusError("limit_exceeded", f"One connection cannot represent more than {most} agents (limits.agents)")
        account = peer.principal.account
        error = self._agents.refusal(account)
        if error is not None:
            return error
        self._agents.count(account, 1)
        self._ids[peer] = ids
        ids[agent_id] = None
        if self._peers.add(agent_id, peer):
            self.attending.came(agent_id, account)
        return None

    def registers(self, peer: Peer, agent_id: str, explicit: bool) -> Peer | None:
        """Have the connection execute commands for this agent.

        Raise `invalid_message` if the id is no name, and `limit_exceeded` beyond `limits.agents` ids or the subject's share of
        `limits.agents_all`; then nothing has changed. An `explicit` id belongs to the connection that registered it last: the
        former holder on this node is closed, and returned so that its executions can be ended; for one on another node see
        `hold`. A connection that only sends telemetry for the id may stay.
        """
        check_name(agent_id, "agentId")
        if not self.represents(peer, agent_id):
            error = self._begins(peer, agent_id)
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # its traceback refers to this frame
        if not explicit:
            return None
        older = self._registered.get(agent_id)
        self._registered[agent_id] = peer
        if older is None or older is peer:
            return None
        older.close(REPLACED)
        return older

    def hold(self, peer: Peer, agent_id: str, vet: Vet, done: Done) -> None:
        """Have the connection, which has registered this explicit id, replace one of another node if `vet` allows that; then
        call `done`."""
        self.attending.holding.hold(agent_id, peer.number, vet, done)

    def represents(self, peer: Peer, agent_id: str) -> bool:
        """Return whether the connection represents this agent."""
        return agent_id in self._ids.get(peer, ())

    def withdraw(self, peer: Peer, agent_id: str, stays: bool) -> None:
        """Undo the registration of this explicit id, which was refused; `stays`: the connection represented it before."""
        if self._registered.get(agent_id) is peer:
            del self._registered[agent_id]
        if not stays and self.represents(peer, agent_id):
            ids = self._ids[peer]
            del ids[agent_id]
            if not ids:
                del self._ids[peer]
            self._forget(peer, agent_id)

    def holder(self, agent_id: str) -> Peer | None:
        """Return the connection of this node that has registered this explicit id; None if there is none."""
        return self._registered.get(agent_id)

    def replaced(self, agent_id: str, session: int, number: int) -> None:
        """Another node has a connection that registered an explicit id in the place of a session of this node. Close that,
        unless it has registered the id again since. Session 0 is that of any registration that the bus knows."""
        holding = self.attending.holding
        if not session and (peer := self._registered.get(agent_id)) is not None and holding.number(agent_id, peer.number):
            session = peer.number
        own = holding.number(agent_id, session)
        if own is not None and own < number:
            self._outdone(agent_id, session)

    def _outdone(self, agent_id: str, session: int) -> None:
        peer = self._registered.get(agent_id)
        if peer is not None and peer.number == session:
            del self._registered[agent_id]
            self.attending.holding.free(agent_id, session)
            peer.close(REPLACED)
            self.evict(peer)

    def gone(self, peer: Peer) -> None:
        """Remove a connection that has ended; it may be one that never represented an agent.

        The removal of many agents is spread over reactor turns; meanwhile some of them are still online.
        """
        ids = self._ids.pop(peer, None)
        if ids:
            self._spread.work(self._leave(peer, ids))

    def _leave(self, peer: Peer, ids: dict[str, None]) -> Iterator[None]:
        for agent_id in ids:
            if self._registered.get(agent_id) is peer:
                del self._registered[agent_id]
                self.attending.holding.free(agent_id, peer.number)
            self._forget(peer, agent_id)
            yield
        if len(ids) > len(self._peers):
            self._peers.compact()
            self._registered = dict(self._registered)

    def _forget(self, peer: Peer, agent_id: str) -> None:
        account = peer.principal.account
        if self._peers.remove(agent_id, peer):
            self.attending.went(agent_id, account)
        self._agents.give_back(account)

    def peers(self, agent_id: str) -> list[Peer]:
        """Return the connections that represent this agent, oldest first; empty if this node has none."""
        return self._peers.all(agent_id)

    def ids(self, peer: Peer) -> list[str]:
        """Return the ids of the agents that this connection represents."""
        return list(self._ids.get(peer, ()))

    def agents(self) -> list[str]:
        """Return the ids of all agents with connections on this node, oldest first."""
        return list(self._peers)


def _nothing(_peer: Peer) -> None:
    pass
