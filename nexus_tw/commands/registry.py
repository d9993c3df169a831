"""The registry: the executors of each name, and the choice of the next one.

Handlers and procedures are the server's own. Connections register a procedure (in the JSON protocol, a command) by its name, or
a pattern of names. All registrations of one pattern are one shared registration; its invocation policy chooses the callee
(WAMP: shared and pattern-based registration).

Its callees are those of the whole fleet: connections of this node, and those that other nodes have told of. They are ordered by
when they registered. That is no time but a number: a node gives its callee a greater one than all that it knows. Nodes that
know the same callees have them in the same order, and whoever registers after it has seen another callee comes after that one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from random import Random
from typing import Final, Protocol

from nexus_tw.commands.callees import PeerExecutor
from nexus_tw.commands.invocations import Invocations
from nexus_tw.commands.remotes import RemoteExecutor
from nexus_tw.interfaces.executors import Executor
from nexus_tw.interfaces.peers import Peer, Registration
from nexus_tw.model.ids import number_of
from nexus_tw.model.multimap import Multimap
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, best
from nexus_tw.model.registering import refusal

SINGLE: Final = "single"
ROUNDROBIN: Final = "roundrobin"

Callee = PeerExecutor | RemoteExecutor

# Ordered dictionaries, not plain ones: removing the first key of a plain one gets slower with each removed key.
_Rotation = OrderedDict[Callee, None]
_Key = tuple[str, str]  # the pattern's text, and the agent


class Elsewhere(Protocol):
    """Is told of the registrations of connections of other nodes."""

    def registered_elsewhere(self, session: int, registration: Registration, created: bool) -> None: ...

    def unregistered_elsewhere(self, session: int, registration: Registration, deleted: bool) -> None: ...


class SharedRegistration:
    """Implements `nexus_tw.interfaces.peers.Registration`: all callees of one name or pattern."""

    __slots__ = ("callees", "created", "here", "invoke", "mixed", "number", "pattern")

    def __init__(self, number: int, pattern: Pattern, invoke: str, created: int) -> None:
        self.number = number
        self.pattern = pattern
        self.invoke = invoke
        self.created = created  # ms since the epoch
        self.callees: _Rotation = OrderedDict()
        self.here = 0  # callees that are connections of this node
        self.mixed = False  # the callees may not be in their order

    def pick(self, random: Random) -> Callee:
        """Return the next callee by the invocation policy. There is always one: the last takes the registration with it."""
        callees = self.callees
        if self.invoke == ROUNDROBIN:
            callee = next(iter(callees))
            callees.move_to_end(callee)
            return callee
        if self.invoke == "random":
            return random.choice(list(callees))
        if self.mixed:
            callees = self.callees = OrderedDict.fromkeys(sorted(callees, key=_place))
            self.mixed = False
        return next(reversed(callees)) if self.invoke == "last" else next(iter(callees))


class Registry:
    """The server's own executors, and the registrations of all connections."""

    def __init__(self, random: Random, invocations: Invocations) -> None:
        self._random = random
        self._invocations = invocations
        self._own: dict[str, Executor] = {}
        self._registrations: PatternIndex[SharedRegistration] = PatternIndex(best)
        self._by_number: dict[int, SharedRegistration] = {}
        self._agents: dict[_Key, dict[Callee, None]] = {}  # in their order
        self._peers: dict[Peer, dict[_Key, PeerExecutor]] = {}
        self._sessions: dict[int, Peer] = {}  # those in `_peers`
        self._remote: dict[str, dict[int, dict[_Key, RemoteExecutor]]] = {}  # by node and session
        self._agents_elsewhere: Multimap[str, RemoteExecutor] = Multimap()
        self._subjects: Multimap[tuple[str, str], Callee] = Multimap()  # by the pattern's text and whose connection it is
        self._order = 0  # the greatest that is known
        self.remote = 0  # callees of other nodes
        self.elsewhere: Elsewhere | None = None  # is told of these

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
        """Raise `POLICY_CONFLICT` or `ALREADY_REGISTERED` if this cannot be registered after `leaving` is gone, because of
        other callees of this node. Callees of other nodes may be gone by now: `claims` decides about them."""
        there = self.registration(pattern)
        if there is None or not there.here or (leaving is not None and self._leaves(there, leaving)):
            return
        if there.invoke != invoke or invoke == SINGLE:
            raise refusal(pattern, there.invoke, invoke)

    def next(self) -> int:
        """Return the order of a callee that registers now: behind all that are known."""
        self._order += 1
        return self._order

    def add(
        self, peer: Peer, agent_id: str, pattern: Pattern, invoke: str, now: float, order: int
    ) -> tuple[SharedRegistration, bool]:
        """Add a connection of this node as this agent. Return the registration, and whether it is new."""
        registration = self.registration(pattern)
        created = registration is None
        if registration is None:
            registration = self._create(pattern, invoke, int(now * 1000))
        elif registration.invoke != invoke:  # the callees of other nodes are gone, as soon as this node hears of it
            registration.invoke = invoke
            registration.mixed = True
        key = (pattern.text, agent_id)
        held = self._peers.get(peer)
        if held is None:
            held = self._peers[peer] = {}
            self._sessions[peer.number] = peer
        callee = held.get(key)
        if callee is None:
            callee = held[key] = PeerExecutor(self._invocations, peer, agent_id, registration)
            callee.place = order
            registration.callees[callee] = None
            registration.here += 1
            self._subjects.add((pattern.text, callee.identity), callee)
        callee.order = order
        self._follow(key, callee)
        return registration, created

    def learn(self, callee: RemoteExecutor, pattern: Pattern, invoke: str, created: int) -> None:
        """Add a callee of another node, or give a known one its new order."""
        registration = self.registration(pattern)
        new = registration is None
        if registration is None:
            registration = self._create(pattern, invoke, created)
        else:
            registration.created = min(registration.created, created)
            if registration.invoke != invoke and not registration.here and callee.order >= self._order:
                registration.invoke = invoke
                registration.mixed = True
        key = (pattern.text, callee.agent_id)
        held = self._remote.setdefault(callee.node, {}).setdefault(callee.session, {})
        known = held.get(key)
        if known is not None:
            known.order = callee.order
            callee = known
        else:
            held[key] = callee
            self.remote += 1
            self._agents_elsewhere.add(callee.agent_id, callee)
            self._subjects.add((pattern.text, callee.identity), callee)
            callee.registration = registration
            callees = registration.callees
            if callees and _place(next(reversed(callees))) > _place(callee):
                registration.mixed = True
            callees[callee] = None
            if self.elsewhere is not None:
                self.elsewhere.registered_elsewhere(callee.session, registration, new)
        self._order = max(self._order, callee.order)
        self._follow(key, callee)

    def _create(self, pattern: Pattern, invoke: str, created: int) -> SharedRegistration:
        registration = SharedRegistration(number_of(pattern, self._by_number), pattern, invoke, created)
        self._registrations.put(pattern, registration)
        self._by_number[registration.number] = registration
        return registration

    def _follow(self, key: _Key, callee: Callee) -> None:
        """Put the callee in its place among those of its agent: as a rule, at the end."""
        callees = self._agents.get(key)
        if callees is None:
            self._agents[key] = {callee: None}
            return
        callees.pop(callee, None)
        late = bool(callees) and _order(next(reversed(callees))) > _order(callee)
        callees[callee] = None
        if late:
            self._agents[key] = dict.fromkeys(sorted(callees, key=_order))

    def _leaves(self, registration: SharedRegistration, peer: Peer) -> bool:
        """Return whether no other connection of this node is a callee."""
        text = registration.pattern.text
        return registration.here == sum(key[0] == text for key in self._peers.get(peer, ()))

    def drop(self, peer: Peer, texts: Iterable[str]) -> list[tuple[SharedRegistration, bool]]:
        """Remove the connection from these registrations, for all its agents; skip names that it did not register.

        Return the registrations that it has left, and whether each has ended.
        """
        wanted = frozenset(texts)
        return self._forget(peer, [key for key in self._peers.get(peer, ()) if key[0] in wanted])

    def lost(self, peer: Peer) -> list[tuple[SharedRegistration, bool]]:
        """Remove a connection. Return the registrations that it has left, and whether each has ended."""
        return self._forget(peer, list(self._peers.get(peer, ())))

    def unlearn(self, node: str, session: int, texts: Container[str] | None) -> None:
        """Remove a connection of another node from these registrations, or from all if `texts` is None."""
        held = self._remote.get(node, {}).get(session, {})
        for key in [key for key in held if texts is None or key[0] in texts]:
            self._remove(key, held.pop(key))
        if not held:
            self._remote.get(node, {}).pop(session, None)

    def mistaken(self, callee: RemoteExecutor) -> None:
        """Remove a callee of which its node says that it does not exist."""
        registration = callee.registration
        if registration is not None:
            held = self._remote.get(callee.node, {}).get(callee.session, {})
            key = (registration.pattern.text, callee.agent_id)
            if held.get(key) is callee:
                self._remove(key, held.pop(key))

    def left(self, node: str) -> None:
        """Remove all callees of a node that is gone."""
        for held in self._remote.pop(node, {}).values():
            for key, callee in held.items():
                self._remove(key, callee)

    def nodes(self) -> list[str]:
        """Return the other nodes that have callees."""
        return list(self._remote)

    def peers(self) -> Collection[Peer]:
        """Return the connections of this node that are callees."""
        return self._peers

    def here(self, session: int, agent_id: str, text: str) -> PeerExecutor | None:
        """Return the callee that is this connection of this node; None if it is gone."""
        peer = self._sessions.get(session)
        return None if peer is None else self._peers[peer].get((text, agent_id))

    def session(self, number: int) -> Peer | None:
        """Return the connection of this node with that session id, if it is a callee."""
        return self._sessions.get(number)

    def held(self, peer: Peer) -> Mapping[tuple[str, str], PeerExecutor]:
        """Return the connection's callees, by the pattern's text and the agent id."""
        return self._peers.get(peer, {})

    def learned(self, node: str, session: int) -> list[str]:
        """Return the patterns that a connection of another node is known to have registered, as text."""
        return list(dict.fromkeys(text for text, _ in self._remote.get(node, {}).get(session, {})))

    def elsewhere_as(self, agent_id: str) -> Iterator[RemoteExecutor]:
        """Yield all callees of those connections of other nodes that execute commands as this agent."""
        connections = {(callee.node, callee.session) for callee in self._agents_elsewhere.all(agent_id)}
        for node, session in sorted(connections):
            yield from self._remote[node][session].values()

    def texts(self, peer: Peer, agent_id: str) -> list[str]:
        """Return the patterns that a connection of this node has registered as that agent, as text."""
        return [text for text, agent in self._peers.get(peer, ()) if agent == agent_id]

    def numbered(self, number: int) -> SharedRegistration | None:
        """Return the registration of that id."""
        return self._by_number.get(number)

    def registration(self, pattern: Pattern) -> SharedRegistration | None:
        return self._registrations.get(pattern)

    def namesakes(self, peer: Peer, pattern: Pattern) -> Iterator[Callee]:
        """Yield the other connections of the peer's subject that have registered this pattern, the oldest first."""
        session = peer.number
        for callee in self._subjects.each((pattern.text, peer.principal.identity)):
            if callee.session != session:
                yield callee

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
            return next(reversed(callees)) if callees else None
        own = self._own.get(name)
        if own is not None:
            return own
        registration = self._registrations.first(name)
        return None if registration is None else registration.pick(self._random)

    def stands(self, executor: Executor) -> bool:
        """Return whether an executor that was picked in an earlier turn may still be used: its connection is there."""
        if isinstance(executor, RemoteExecutor):
            held: Mapping[_Key, Callee] = self._remote.get(executor.node, {}).get(executor.session, {})
        elif isinstance(executor, PeerExecutor):
            held = self._peers.get(executor.peer, {})
        else:
            return True
        registration = executor.registration
        return registration is not None and held.get((registration.pattern.text, executor.agent_id)) is executor

    def _forget(self, peer: Peer, keys: list[_Key]) -> list[tuple[SharedRegistration, bool]]:
        left = []
        for key in keys:
            held = self._peers[peer]
            callee = held.pop(key)
            if not held:
                del self._peers[peer]
                del self._sessions[peer.number]
            registration = self._by_number[callee.registration.number]
            self._remove(key, callee)
            left.append((registration, not registration.callees))
        return left

    def _remove(self, key: _Key, callee: Callee) -> None:
        registration = callee.registration
        assert isinstance(registration, SharedRegistration)
        if isinstance(callee, RemoteExecutor):
            self.remote -= 1
            self._agents_elsewhere.remove(callee.agent_id, callee)
        else:
            registration.here -= 1
        self._subjects.remove((key[0], callee.identity), callee)
        del registration.callees[callee]
        if not registration.callees:
            del self._by_number[registration.number]
            self._registrations.drop(registration.pattern)
        callees = self._agents[key]
        del callees[callee]
        if not callees:
            del self._agents[key]
        if isinstance(callee, RemoteExecutor) and self.elsewhere is not None:
            self.elsewhere.unregistered_elsewhere(callee.session, registration, not registration.callees)


def _place(callee: Callee) -> tuple[int, int]:
    return callee.place, callee.session  # no two connections of the fleet have the same


def _order(callee: Callee) -> tuple[int, int]:
    return callee.order, callee.session
