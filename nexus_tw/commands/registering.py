"""Registering: adds connections as executors of commands and procedures, and removes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Final

from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.callees import PeerExecutor
from nexus_tw.commands.claims import Request
from nexus_tw.commands.fleetwide import Fleetwide
from nexus_tw.commands.invocations import Invocations
from nexus_tw.commands.registry import ROUNDROBIN, Registry, SharedRegistration
from nexus_tw.commands.tasks import Commands
from nexus_tw.interfaces.peers import Fail, Peer, Registration
from nexus_tw.model.attendance import Hold
from nexus_tw.model.errors import ALREADY_REGISTERED, NexusError
from nexus_tw.model.names import Pattern, check_name, is_reserved
from nexus_tw.model.policy import Principal
from nexus_tw.model.settings import Limits
from nexus_tw.presence.agents import Presence
from nexus_tw.presence.holding import Done
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall

PROBES: Final = 64  # connections of the same subject that a registration checks, the oldest first


class Registrar:
    """Registers and unregisters connections."""

    def __init__(
        self,
        clock: IReactorTime,
        presence: Presence,
        spread: Spread,
        registry: Registry,
        invocations: Invocations,
        commands: Commands,
        meta: Meta,
        limits: Limits,
        fleetwide: Fleetwide,
    ) -> None:
        """`commands` has those that wait for an executor; `spread` spreads the ends of executions after a lost connection over
        turns."""
        self._clock = clock
        self._presence = presence
        presence.evict = self.lost
        self._spread = spread
        self._registry = registry
        self._invocations = invocations
        self._commands = commands
        self._meta = meta
        self._limits = limits
        self._directory = fleetwide.directory
        self._claims = fleetwide.claims
        self._claims.connect(self.revoke)
        self._registering: dict[Peer, Request] = {}  # what is being decided

    def register(
        self, peer: Peer, commands: list[str], agent_id: str | None, ok: Callable[[], None], fail: Fail
    ) -> None:
        """Let the connection execute these commands, in turn with others, as the given agent or else as its own client id.

        Fail with `invalid_message`, `forbidden` or `limit_exceeded`; then nothing has changed. An agent id requires the right
        to send telemetry for it: a client that may not represent an agent must not get its commands either. If another
        connection holds the id, here or on another node, the right to all commands that it has registered is required, too: as
        its own node says, or if that does not answer, as far as this one has learned. An empty list requires the right to
        register anything. Commands that wait for this agent are handed over in the next reactor turn, after the reply to this.
        """
        most = self._limits.registrations
        try:
            # Before checking each: thousands of new names in one message would delay all clients.
            if 0 < most < len(commands) and most < len(set(commands)):
                raise _too_many(most)
            patterns = [Pattern.parse(check_name(name, "commands")) for name in commands]
        except NexusError as error:
            fail(error)
            return
        self._register(peer, peer.principal, patterns, ROUNDROBIN, agent_id, lambda _added: ok(), fail)

    def register_procedure(
        self,
        peer: Peer,
        rights: Principal,
        pattern: Pattern,
        invoke: str,
        agent_id: str | None,
        ok: Callable[[Registration], None],
        fail: Fail,
    ) -> None:
        """Let the connection execute this procedure, or all of a pattern, with others by the invocation policy `invoke`.

        Fail with what `register` does, and `ALREADY_REGISTERED` or `POLICY_CONFLICT` if others have registered it with another
        policy.
        """
        self._register(peer, rights, [pattern], invoke, agent_id, lambda added: ok(added[0]), fail)

    def unregister(self, peer: Peer, commands: list[str]) -> None:
        """Remove these registrations of the connection, for all its agents. It may finish its current executions."""
        left = self._registry.drop(peer, commands)
        if left:
            self._directory.dropped(peer, [registration.pattern.text for registration, _ in left])
        self._left(peer, left)

    def revoke(self, registration: SharedRegistration, error: NexusError) -> None:
        """End a registration of all connections of this node, since other nodes have it."""
        for callee in list(registration.callees):
            if isinstance(callee, PeerExecutor):
                peer = callee.peer
                self.unregister(peer, [registration.pattern.text])
                peer.unregistered(registration, error.uri)

    def lost(self, peer: Peer) -> None:
        """Remove a connection that is gone, with its executions and its waiting callers. A second call does nothing."""
        request = self._registering.pop(peer, None)
        if request is not None:
            request.settle()
        self._commands.left(peer)
        left = self._registry.lost(peer)
        if left:
            self._directory.dropped(peer, None)
        self._left(peer, left)
        self._spread.work(self._invocations.lost(peer))

    def _register(
        self,
        peer: Peer,
        rights: Principal,
        patterns: list[Pattern],
        invoke: str,
        agent_id: str | None,
        ok: Callable[[list[SharedRegistration]], None],
        fail: Fail,
    ) -> None:
        try:
            self._check(peer, rights, patterns, invoke, agent_id)
        except NexusError as error:
            fail(error)
            return
        request = self._registering[peer] = self._claims.request(patterns)
        agent = peer.client_id if agent_id is None else agent_id
        waited = False

        def claimed(error: NexusError | None) -> None:
            try:
                if error is not None:
                    raise error
                if waited:
                    self._present(peer, request)
                    self._check(peer, rights, patterns, invoke, agent_id)
                stays = self._presence.represents(peer, agent)
                replaced = self._presence.registers(peer, agent, agent_id is not None)
            except NexusError as refused:
                self._settle(peer, request)
                fail(refused)
                return
            if replaced is not None:
                self.lost(replaced)
            if agent_id is None:
                held(False, None)
            else:
                self._presence.hold(peer, agent, partial(self._vet, rights), partial(held, stays))

        def held(stays: bool, error: NexusError | None) -> None:
            if error is not None:
                self._presence.withdraw(peer, agent, stays)
                self._settle(peer, request)
                fail(error)
                return
            # Otherwise it is gone, or was replaced in its turn: nobody waits for an answer.
            if self._registering.get(peer) is request and (agent_id is None or self._presence.holder(agent) is peer):
                added = self._add(peer, agent, patterns, invoke)
                self._settle(peer, request)
                ok(added)
            else:
                self._settle(peer, request)

        request.decide(invoke, claimed)
        waited = True

    def _present(self, peer: Peer, request: Request) -> None:
        """Raise an error if the connection is gone."""
        if self._registering.get(peer) is not request:
            raise NexusError("shutting_down", "The session is over")

    def _settle(self, peer: Peer, request: Request) -> None:
        """End a request: its names are registered, or will not be."""
        if self._registering.get(peer) is request:
            del self._registering[peer]
        request.settle()

    def _check(
        self, peer: Peer, rights: Principal, patterns: list[Pattern], invoke: str, agent_id: str | None
    ) -> None:
        """Raise the error of a registration that is refused whatever other nodes say."""
        registry = self._registry
        replacing = self._replacing(peer, agent_id)
        for pattern in patterns:
            name = pattern.text
            if is_reserved(name):
                raise NexusError("forbidden", f"{name} is reserved to the server")
            rights.require_cover("register", pattern)
            if registry.own(name) is not None:
                raise ALREADY_REGISTERED.error(f"{name} is executed by the server itself")
            registry.check(pattern, invoke, replacing)
        if not patterns and not rights.has("register"):
            raise NexusError("forbidden", "Not allowed to register any command")
        if agent_id is not None:
            peer.principal.require("telemetry", check_name(agent_id, "agentId"))
        agent = peer.client_id if agent_id is None else agent_id
        most = self._limits.registrations
        if most and len(registry.held(peer).keys() | {(pattern.text, agent) for pattern in patterns}) > most:
            raise _too_many(most)
        # Check the right to the commands taken from the former holder, which need not be among the requested ones.
        if replacing is not None:
            for callee in registry.held(replacing).values():
                rights.require_cover("register", callee.registration.pattern)
        if agent_id is not None:
            for taken in registry.elsewhere_as(agent_id):
                assert taken.registration is not None
                rights.require_cover("register", taken.registration.pattern)

    def _vet(self, rights: Principal, holder: Hold, done: Done) -> None:
        """Pass to `done` why a connection of another node, which holds an agent, may not be replaced; None if it may."""

        def told(texts: Iterable[str]) -> None:
            try:
                for text in texts:
                    rights.require_cover("register", Pattern.of_text(text))
            except NexusError as error:
                done(error)
            else:
                done(None)

        self._directory.ask(holder.node, holder.session, told)

    def _add(self, peer: Peer, agent: str, patterns: list[Pattern], invoke: str) -> list[SharedRegistration]:
        registry = self._registry
        added = []
        order = registry.next()
        for pattern in patterns:
            registration, created = registry.add(peer, agent, pattern, invoke, wall(self._clock), order)
            self._meta.registered(peer, registration, created)
            added.append(registration)
            if agent == peer.client_id:
                # A dead one would get its share of the calls until its heartbeat times out. Of those with an agent id of their
                # own the dead one is replaced, and the others are other agents.
                for namesake in tuple(islice(registry.namesakes(peer, pattern), PROBES)):
                    namesake.probe(_nothing)
        held = registry.held(peer)
        self._directory.added(peer, (held[pattern.text, agent] for pattern in patterns))
        self._commands.wake(patterns, agent)
        return added

    def _replacing(self, peer: Peer, agent_id: str | None) -> Peer | None:
        """Return the connection that is replaced if this one registers as that agent."""
        holder = None if agent_id is None else self._presence.holder(agent_id)
        return None if holder is peer else holder

    def _left(self, peer: Peer, registrations: list[tuple[SharedRegistration, bool]]) -> None:
        for registration, ended in registrations:
            self._meta.unregistered(peer, registration, ended)
            if not registration.here:
                self._claims.dropped(registration)


def _nothing() -> None:
    """Do nothing at the end of a probe."""


def _too_many(most: int) -> NexusError:
    return NexusError("limit_exceeded", f"One connection cannot register more than {most} commands")
