"""The registry: the executors of each name, and the choice of the next one.

Handlers and procedures are the server's own. Connections register a procedure (in the JSON protocol, a command) by its name, or
a pattern of names. All registrations of one pattern are one shared registration; its invocation policy chooses the callee
(WAMP: shared and pattern-based registration).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from random import Random
from typing import Final

from nexus_tw.commands.callees import PeerExecutor
from nexus_tw.commands.invocations import Invocations
from nexus_tw.interfaces.executors import Executor
from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.errors import ALREADY_REGISTERED, POLICY_CONFLICT
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, best

SINGLE: Final = "single"
ROUNDROBIN: Final = "roundrobin"


# Ordered dictionaries, not plain ones: removing the first key of a plain one gets slower with each removed key.
_Rotation = OrderedDict[PeerExecutor, None]


class SharedRegistration:
    """Implements `nexus_tw.interfaces.peers.Registration`: all callees of one name or pattern."""

    __slots__ = ("callees", "created", "invoke", "number", "pattern")

    def __init__(self, number: int, pattern: Pattern, invoke: str, created: int) -> None:
        self.number = number
        self.pattern = pattern
        self.invoke = invoke
        self.created = created  # ms since the epoch
        self.callees: _Rotation = OrderedDict()

    def pick(self, random: Random) -> PeerExecutor:
        """Return the next callee by the invocation policy. There is always one: the last takes the registration with it."""
        callees = self.callees
        if self.invoke == ROUNDROBIN:
            callee = next(iter(callees))
            callees.move_to_end(callee)
            return callee
        if self.invoke == "random":
            return random.choice(list(callees))
        return next(reversed(callees)) if self.invoke == "last" else next(iter(callees))


class Registry:
    """The server's own executors, and the registrations of all connections."""

    def __init__(self, random: Random, invocations: Invocations) -> None:
        self._random = random
        self._invocations = invocations
        self._numbers = count(1)
        self._own: dict[str, Executor] = {}
        self._registrations: PatternIndex[SharedRegistration] = PatternIndex(best)
        self._by_number: dict[int, SharedRegistration] = {}
        self._agents: dict[tuple[str, str], dict[Peer, PeerExecutor]] = {}
        self._peers: dict[Peer, dict[tuple[str, str], PeerExecutor]] = {}  # by the pattern's text, and the agent

    def __iter__(self) -> Iterator[SharedRegistration]:
        return iter(self._registrations)

    @property
    def size(self) -> int:
        """The number of registrations of all connections: one for each connection, agent and pattern."""
        return sum(map(len, self._peers.values()))

    def serve(self, name: str, executor: Executor) -> None:
        """Have the server itself execute this name."""
        self._own[name] = executor

    def own(self, name: str) -> Executor | None:
        """Return the server's own executor of this name; None if there is none."""
        return self._own.get(name)

    def check(self, pattern: Pattern, invoke: str, leaving: Peer | None = None) -> None:
        """Raise `POLICY_CONFLICT` or `ALREADY_REGISTERED` if this cannot be registered after `leaving` is gone."""
        there = self.registration(pattern)
        if there is None or (leaving is not None and all(callee.peer is leaving for callee in there.callees)):
            return
        name = pattern.policy[1]
        if there.invoke != invoke:
            raise POLICY_CONFLICT.error(f"{name} is registered with the invocation policy {there.invoke}")
        if invoke == SINGLE:
            raise ALREADY_REGISTERED.error(f"{name} is registered already")

    def add(
        self, peer: Peer, agent_id: str, pattern: Pattern, invoke: str, now: float
    ) -> tuple[SharedRegistration, bool]:
        """Add a connection as this agent. Return the registration, and whether it is new."""
        registration = self.registration(pattern)
        created = registration is None
        if registration is None:
            registration = SharedRegistration(next(self._numbers), pattern, invoke, int(now * 1000))
            self._registrations.put(pattern, registration)
            self._by_number[registration.number] = registration
        key = (pattern.text, agent_id)
        held = self._peers.setdefault(peer, {})
        callee = held.get(key)
        if callee is None:
            callee = held[key] = PeerExecutor(self._invocations, peer, agent_id, registration)
            registration.callees[callee] = None
        callees = self._agents.setdefault(key, {})
        callees.pop(peer, None)
        callees[peer] = callee
        return registration, created

    def drop(self, peer: Peer, texts: Iterable[str]) -> list[tuple[SharedRegistration, bool]]:
        """Remove the connection from these registrations, for all its agents; skip names that it did not register.

        Return the registrations that it has left, and whether each has ended.
        """
        wanted = frozenset(texts)
        return self._forget(peer, [key for key in self._peers.get(peer, ()) if key[0] in wanted])

    def lost(self, peer: Peer) -> list[tuple[SharedRegistration, bool]]:
        """Remove a connection. Return the registrations that it has left, and whether each has ended."""
        return self._forget(peer, list(self._peers.get(peer, ())))

    def held(self, peer: Peer) -> Mapping[tuple[str, str], PeerExecutor]:
        """Return the connection's callees, by the pattern's text and the agent id."""
        return self._peers.get(peer, {})

    def numbered(self, number: int) -> SharedRegistration | None:
        """Return the registration of that id."""
        return self._by_number.get(number)

    def registration(self, pattern: Pattern) -> SharedRegistration | None:
        return self._registrations.get(pattern)

    def namesakes(self, peer: Peer, pattern: Pattern) -> list[Peer]:
        """Return the other connections of the peer's subject that have registered this pattern."""
        there = self.registration(pattern)
        if there is None:
            return []
        mine = peer.principal.identity
        peers = (callee.peer for callee in there.callees)
        return [other for other in peers if other is not peer and other.principal.identity == mine]

    def multi_agent(self, peer: Peer) -> bool:
        """Return whether the connection executes commands for more than one agent."""
        registrations = iter(self._peers.get(peer, ()))
        _, first = next(registrations, (None, None))
        return any(agent_id != first for _, agent_id in registrations)

    def find(self, name: str) -> SharedRegistration | None:
        """Return the registration for calls of this name: the exact one, else that of the best pattern."""
        return self._registrations.first(name)

    def any(self, name: str, agent_id: str | None) -> bool:
        """Return whether any connection (with an id: as that agent) executes it."""
        return self.find(name) is not None if agent_id is None else (name, agent_id) in self._agents

    def pick(self, name: str, agent_id: str | None) -> Executor | None:
        """Return the executor for the next invocation: the server's own, or else one of the registration's callees; with an
        agent id that agent's latest connection."""
        if agent_id is not None:
            callees = self._agents.get((name, agent_id))
            return next(reversed(callees.values())) if callees else None
        own = self._own.get(name)
        if own is not None:
            return own
        registration = self._registrations.first(name)
        return None if registration is None else registration.pick(self._random)

    def stands(self, executor: Executor) -> bool:
        """Return whether an executor that was picked in an earlier turn may still be used: its connection is there."""
        if not isinstance(executor, PeerExecutor):
            return True
        held = self._peers.get(executor.peer)
        return held is not None and held.get((executor.registration.pattern.text, executor.agent_id)) is executor

    def _forget(self, peer: Peer, keys: list[tuple[str, str]]) -> list[tuple[SharedRegistration, bool]]:
        left = []
        for key in keys:
            held = self._peers[peer]
            callee = held.pop(key)
            if not held:
                del self._peers[peer]
            registration = self._by_number[callee.registration.number]
            del registration.callees[callee]
            if not registration.callees:
                del self._by_number[registration.number]
                self._registrations.drop(registration.pattern)
            callees = self._agents[key]
            del callees[peer]
            if not callees:
                del self._agents[key]
            left.append((registration, not registration.callees))
        return left
