"""Executors: which connection executes which procedure, as which agent, and whose turn it is.

A procedure (to the JSON protocol, a command) is registered under its name, or as a pattern of names. All who register the same
one share a registration, whose invocation policy says which of them is taken (WAMP: shared and pattern-based registration).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import count
from random import Random
from typing import Final, NamedTuple

from nexus_tw.interfaces.peers import Peer
from nexus_tw.model.errors import ALREADY_REGISTERED, POLICY_CONFLICT
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, best

SINGLE: Final = "single"
ROUNDROBIN: Final = "roundrobin"


class Executor(NamedTuple):
    """A connection in its role as one agent; a gateway's connection may have several."""

    peer: Peer
    agent_id: str


# Ordered dictionaries, not plain ones: taking from the front of a plain one gets slower with each key taken.
_Rotation = OrderedDict[Executor, None]


class Registration:
    """All who execute the same; `number` is its id in WAMP."""

    __slots__ = ("created", "executors", "invoke", "number", "pattern")

    def __init__(self, number: int, pattern: Pattern, invoke: str, created: int) -> None:
        self.number = number
        self.pattern = pattern
        self.invoke = invoke
        self.created = created  # ms since the epoch
        self.executors: _Rotation = OrderedDict()

    def pick(self, random: Random) -> Executor:
        """Whose turn it is. There is always somebody: the last one takes the registration with it."""
        executors = self.executors
        if self.invoke == ROUNDROBIN:
            executor = next(iter(executors))
            executors.move_to_end(executor)
            return executor
        if self.invoke == "random":
            return random.choice(list(executors))
        return next(reversed(executors)) if self.invoke == "last" else next(iter(executors))


class Executors:
    """The registrations of all connections."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._numbers = count(1)
        self._registrations: PatternIndex[Registration] = PatternIndex(best)
        self._by_number: dict[int, Registration] = {}
        self._agents: dict[tuple[str, str], dict[Peer, None]] = {}
        self._peers: dict[Peer, dict[tuple[str, str], Registration]] = {}  # by the pattern's text, and the agent

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._registrations)

    def check(self, pattern: Pattern, invoke: str, leaving: Peer | None = None) -> None:
        """Raise `POLICY_CONFLICT` or `ALREADY_REGISTERED` if nobody may register this so once `leaving` is gone."""
        there = self.registration(pattern)
        if there is None or (leaving is not None and all(peer is leaving for peer, _ in there.executors)):
            return
        name = pattern.policy[1]
        if there.invoke != invoke:
            raise POLICY_CONFLICT.error(f"{name} is registered with the invocation policy {there.invoke}")
        if invoke == SINGLE:
            raise ALREADY_REGISTERED.error(f"{name} is registered already")

    def add(self, peer: Peer, agent_id: str, pattern: Pattern, invoke: str, now: float) -> tuple[Registration, bool]:
        """From now on the connection executes this as this agent; the registration, and whether it is a new one."""
        registration = self.registration(pattern)
        created = registration is None
        if registration is None:
            registration = Registration(next(self._numbers), pattern, invoke, int(now * 1000))
            self._registrations.put(pattern, registration)
            self._by_number[registration.number] = registration
        key = (pattern.text, agent_id)
        self._peers.setdefault(peer, {})[key] = registration
        registration.executors[Executor(peer, agent_id)] = None
        peers = self._agents.setdefault(key, {})
        peers.pop(peer, None)
        peers[peer] = None
        return registration, created

    def drop(self, peer: Peer, texts: Iterable[str]) -> list[tuple[Registration, bool]]:
        """The connection executes these no longer, as whichever agent; names that it did not execute are passed over.

        The registrations it has left, and whether each is gone with it.
        """
        wanted = frozenset(texts)
        return self._forget(peer, [key for key in self._peers.get(peer, ()) if key[0] in wanted])

    def lost(self, peer: Peer) -> list[tuple[Registration, bool]]:
        """The connection executes nothing any more; the registrations it has left, and whether each is gone with it."""
        return self._forget(peer, list(self._peers.get(peer, ())))

    def registrations(self, peer: Peer) -> dict[tuple[str, str], Registration]:
        """What the connection executes, by text and agent id."""
        return self._peers.get(peer, {})

    def numbered(self, number: int) -> Registration | None:
        """The registration of that id."""
        return self._by_number.get(number)

    def registration(self, pattern: Pattern) -> Registration | None:
        return self._registrations.get(pattern)

    def namesakes(self, peer: Peer, pattern: Pattern) -> list[Peer]:
        """Return the other connections of the peer's subject that execute what is registered under this pattern."""
        there = self.registration(pattern)
        if there is None:
            return []
        mine = peer.principal.identity
        return [other for other, _ in there.executors if other is not peer and other.principal.identity == mine]

    def several(self, peer: Peer) -> bool:
        """Whether the connection executes as more than one agent."""
        registrations = iter(self._peers.get(peer, ()))
        _, first = next(registrations, (None, None))
        return any(agent_id != first for _, agent_id in registrations)

    def find(self, name: str) -> Registration | None:
        """Return the registration for calls of this name: the exact one, else that of the best pattern."""
        return self._registrations.first(name)

    def any(self, name: str, agent_id: str | None) -> bool:
        """Whether anybody (or with an id, that agent) executes it."""
        return self.find(name) is not None if agent_id is None else (name, agent_id) in self._agents

    def pick(self, name: str, agent_id: str | None) -> tuple[Registration, Executor] | None:
        """Who shall execute it next: one of the registration's, or the given agent's latest connection."""
        if agent_id is not None:
            peers = self._agents.get((name, agent_id))
            if not peers:
                return None
            peer = next(reversed(peers))
            return self._peers[peer][name, agent_id], Executor(peer, agent_id)
        registration = self.find(name)
        return None if registration is None else (registration, registration.pick(self._random))

    def _forget(self, peer: Peer, keys: list[tuple[str, str]]) -> list[tuple[Registration, bool]]:
        left = []
        for key in keys:
            registrations = self._peers[peer]
            registration = registrations.pop(key)
            if not registrations:
                del self._peers[peer]
            agent_id = key[1]
            del registration.executors[Executor(peer, agent_id)]
            if not registration.executors:
                del self._by_number[registration.number]
                self._registrations.drop(registration.pattern)
            peers = self._agents[key]
            del peers[peer]
            if not peers:
                del self._agents[key]
            left.append((registration, not registration.executors))
        return left
