"""A realm: a separate set of events, commands, agents and sessions, and the verbs for its sessions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final, ParamSpec

from msgspec import Raw
from twisted.internet.interfaces import IReactorTime

from nexus_tw.bus.memory_attendance import MemoryAttendance
from nexus_tw.commands.answers import Answers
from nexus_tw.commands.audit import Audit
from nexus_tw.commands.calls import Calls
from nexus_tw.commands.fleetwide import Fleetwide
from nexus_tw.commands.handlers import HELD, HandlerExecutor
from nexus_tw.commands.invocations import Invocations
from nexus_tw.commands.procedures import ProcedureExecutor
from nexus_tw.commands.registering import Registrar
from nexus_tw.commands.registry import Registry
from nexus_tw.commands.stored import StoredLedger
from nexus_tw.commands.tasks import Commands
from nexus_tw.fleet.fleet import BusFleet
from nexus_tw.interfaces.ledger import ILedger
from nexus_tw.interfaces.peers import Fail, Invocation, Peer, Registration, Subscription
from nexus_tw.interfaces.plugins import Handler, IBus
from nexus_tw.interfaces.realm import (
    CallReply,
    CallRequest,
    CommandReply,
    HistoryPage,
    HistoryRequest,
    OpenCall,
    Placed,
    SubmittedSample,
    SubscribeReply,
    SubscribeRequest,
)
from nexus_tw.model import settings
from nexus_tw.model.attendance import STATUS, Attendance, Hold
from nexus_tw.model.budgets import Budget
from nexus_tw.model.commands import CommandAnswer, CommandRequest, CommandState, ProgressReport
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import Event, EventMetadata, Recipient
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.presence.agents import Presence
from nexus_tw.presence.fellows import Fellows
from nexus_tw.presence.holding import Surroundings
from nexus_tw.presence.overview import Overview
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.pages import Pages
from nexus_tw.pubsub.retaining import find_retained
from nexus_tw.pubsub.service import PubSub
from nexus_tw.realm.authorization import Authorization, authorizer_of
from nexus_tw.realm.event_history import EventHistory
from nexus_tw.realm.listener import RealmListener
from nexus_tw.realm.meta_api import MetaApi
from nexus_tw.realm.permissions import Permissions
from nexus_tw.realm.questions import Questions
from nexus_tw.realm.telemetry_api import SUBMIT, submitting
from nexus_tw.realm.testaments import Testaments
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.runtime.spread import Spread
from nexus_tw.runtime.walltime import wall
from nexus_tw.telemetry.intake import Announce, Telemetry

P = ParamSpec("P")

_guarded: Final = Guard(__name__, "A session that has ended could not be forgotten")


class Realm:
    """Implements `nexus_tw.interfaces.realm.Verbs`. Realms are isolated from each other."""

    def __init__(
        self,
        name: str,
        rules: settings.Realm,
        bus: IBus,
        end_of_turn: Callable[[Callable[[], None]], None],
        clock: IReactorTime,
        random: Random,
        limits: settings.Limits,
        metrics: Metrics,
        handlers: Mapping[str, Handler],
        everybody: Callable[[], Iterable[Peer]],
        history: settings.History,
        telemetry: Callable[[Announce], Telemetry] | None = None,
        ledger: StoredLedger | None = None,
        grace: float = 0.0,
        audit: Audit | None = None,
    ) -> None:
        """`end_of_turn` calls back at the end of the reactor turn; `everybody` returns the peers that get broadcasts;
        `telemetry` makes the realm's telemetry, None if it takes none; `ledger` keeps commands if the bus keeps them no longer
        than the process; `grace` (s) is how long an agent without connections stays online; `audit` gets what becomes of
        commands. Raise `ConfigError` if the authorizer cannot be imported."""
        self.name = name
        self.strict = rules.uris == "strict"
        self.discloses = rules.disclose
        self.bus = bus
        self.fleet = BusFleet(bus, end_of_turn, clock, metrics, realm=name)
        self._own_ledger = ledger
        self._roster = Roster()
        self._journal = ClientLog("calls", clock, metrics)
        self._spread = Spread(clock)
        self._pages = Pages(bus, clock)
        pubsub = PubSub(bus, self.fleet, end_of_turn, clock, self._spread, limits, metrics, history, self._roster, everybody)
        self._hub = pubsub.hub
        self._meta = pubsub.meta
        self._watching = pubsub.watching
        self._subscriptions = pubsub.subscriptions
        self._cursors = pubsub.cursors
        self._nodes = pubsub.nodes
        self._publications = pubsub.publications
        self.waiting: Container[Peer] = self._subscriptions.lines.waiting
        fleet, publications = self.fleet, self._publications
        # A bus that keeps no attendance knows of this node's agents only.
        own = MemoryAttendance(
            Attendance(lambda told: publications.announce(STATUS, *told), partial(wall, clock)), lambda: True, lambda: name
        )
        around = Surroundings(
            lambda: bus.attendance or own, lambda: fleet.node, lambda: bool(fleet.members), partial(publications.missed, STATUS)
        )
        self._presence = Presence(around, self._displaced, clock, grace, limits, metrics, self._spread)
        self._fellows = Fellows(fleet, self._presence, around.attendance, clock, grace)
        self.listener = RealmListener(pubsub.listener, fleet, self._presence.attending.restored)
        self._invocations = Invocations(limits)
        self._registry = Registry(random, self._invocations)
        self._registry.elsewhere = self._meta
        self.overview = Overview(
            fleet, self._presence, around.attendance, self._registry.texts, clock, self._spread
        )
        self._commands = Commands(
            clock,
            self._publications.announce,
            self._presence,
            self._spread,
            self._registry,
            limits,
            metrics,
            self._journal,
            rules.disclose,
            self._ledger,
            self.fleet,
        )
        self._answers = Answers(self._invocations, limits, metrics)
        self._fleetwide = Fleetwide(
            bus, self.fleet, end_of_turn, clock, self._spread, self._registry, metrics, self._commands.wake
        )
        self._audit = audit
        if audit is not None:
            self._commands.noted(audit)
        self._commands.adopts(self._fleetwide.remotes)
        self._registrar = Registrar(
            clock,
            self._presence,
            self._spread,
            self._registry,
            self._invocations,
            self._commands,
            self._meta,
            limits,
            self._fleetwide,
        )
        self._calls = Calls(clock, self._registry, metrics, limits, rules.disclose, self._journal)
        authorizer = authorizer_of(name, rules, Questions(self._calls, limits).ask)
        authorization = Authorization(name, authorizer, clock, limits, metrics) if authorizer is not None else None
        permissions = Permissions(self._subscriptions.lines, self._calls, authorization, self._journal)
        self.authorize = permissions.authorize  # without a frame between, as it is called for each request
        self._testaments = Testaments(
            self._publications, self._roster, self.authorize, metrics, limits, rules.disclose
        )
        self.telemetry = telemetry(self._publications.announce) if telemetry is not None else None
        meta_api = MetaApi(
            self.fleet, pubsub.hub, self._subscriptions, self._registry, self._registrar, self._roster
        )
        event_history = EventHistory(bus, clock, meta_api.find, self._subscriptions)
        procedures = meta_api.procedures | event_history.procedures | self._testaments.procedures
        if self.telemetry is not None:
            procedures[SUBMIT] = submitting(self.telemetry, self._presence.acts)
        for uri, procedure in procedures.items():
            self._registry.serve(uri, ProcedureExecutor(procedure, self._roster.get))
        held = Budget("handler_bytes", HELD, limits, metrics)
        for command, handler in handlers.items():
            runner = PluginRunner(f"The handler of {command}", "give it `thread = true`")
            self._registry.serve(command, HandlerExecutor(partial(runner.run, handler), held))

    def _ledger(self) -> ILedger | None:
        shared = self.bus.ledger
        return shared if self._own_ledger is None or (shared is not None and shared.lasting) else self._own_ledger

    def start(self) -> None:
        """Join the other nodes, and go on with what was left open; called once bus and store are started."""
        self.fleet.start()
        self._presence.attending.started()
        if self._ledger() is self._own_ledger:
            self._commands.resume()

    def drain(self) -> None:
        """Tell the other nodes that this one's clients come to them."""
        self._fellows.drain()

    def stop(self) -> None:
        """Finish the deferred work for clients that have left, and leave the other nodes; no client is connected any more."""
        self._spread.finish()
        self._commands.stop()
        if self._own_ledger is not None:
            self._own_ledger.stop()
        self._presence.attending.stop()
        self._fellows.stop()
        self._cursors.stop()
        self._fleetwide.stop()
        self.fleet.stop()
        self._watching.stop()

    def _displaced(self, agent_id: str, former: Hold, number: int) -> None:
        self._fellows.displaced(agent_id, former, number)

    @property
    def sizes(self) -> Mapping[str, int]:
        """What clients have here at present, by what it is. Counted anew, so for metrics and no more often."""
        return {
            "agents": len(self._presence),
            "agents_leaving": len(self._presence.attending),
            "commands_open": self._commands.open,
            "commands_followed": self._commands.followed,
            "registrations": self._registry.size,
            "subscriptions": sum(bucket.subscribers for bucket in self._hub.buckets()),
        }

    @property
    def remembers(self) -> bool:
        return self.bus.history is not None

    @property
    def retains(self) -> bool:
        return self.bus.retained is not None

    # --- sessions

    def join(self, peer: Peer) -> None:
        self._roster.add(peer)
        self._meta.joined(peer)

    def gone(self, peer: Peer) -> None:
        if self._roster.remove(peer):
            for forget in (
                self._subscriptions.gone,
                self._registrar.lost,
                self._presence.gone,
                self._testaments.gone,
                self._meta.left,
            ):
                _guarded(forget, peer)

    def overran(self, peer: Peer) -> None:
        self._invocations.overran(peer)

    def queue(self, peer: Peer, size: int, act: Callable[[], None]) -> None:
        self._subscriptions.lines.place(peer, size).ready(act)

    def holdings(self, peer: Peer) -> tuple[list[str], int] | None:
        """Return the agents that the session represents and the number of its subscriptions; None if it is not a member."""
        if self._roster.get(peer.number) is not peer:
            return None
        return self._presence.ids(peer), self._subscriptions.count(peer)

    # --- publish and subscribe

    def subscribe(self, peer: Peer, rights: Principal, request: SubscribeRequest, reply: SubscribeReply) -> None:
        self._subscriptions.subscribe(peer, rights, request, reply)

    def unsubscribe(self, peer: Peer, events: list[str], ok: Callable[[], None]) -> None:
        self._subscriptions.unsubscribe(peer, events, ok)

    def subscription(self, pattern: Pattern) -> Subscription:
        return self._subscriptions.subscription(pattern)

    def subscribed(self, peer: Peer, number: int) -> Pattern | None:
        return self._subscriptions.held(peer, number)

    def publish(
        self,
        rights: Principal,
        event_type: str,
        payload: Payload,
        ok: Callable[[Position | None], None],
        fail: Fail,
        metadata: EventMetadata | None = None,
    ) -> None:
        self._publications.publish(rights, event_type, payload, ok, fail, metadata)

    def check_publish(self, rights: Principal, event_type: str, member: str) -> None:
        self._publications.check(rights, event_type, member)

    def broadcast(self, rights: Principal, data: bytes, ok: Callable[[int], None], fail: Fail) -> None:
        if rights.admin:
            self._nodes.broadcast(Raw(data), ok, fail)
        else:
            fail(NexusError("forbidden", "Only administrators may broadcast"))

    def lost(self, event_type: str) -> None:
        self._publications.missed(event_type)

    def retained(
        self, reader: Recipient, pattern: Pattern, placed: Placed, done: Callable[[Sequence[Event]], None]
    ) -> None:
        find_retained(self.bus, self._cursors, reader, pattern, placed, done)

    def history(
        self, reader: Recipient, rights: Principal, request: HistoryRequest, ok: Callable[[HistoryPage], None], fail: Fail
    ) -> None:
        self._pages.read(reader, rights, request, ok, fail)

    # --- telemetry

    def submit(
        self, peer: Peer, agent_id: str, metrics: Raw, timestamp: str | None, ok: Callable[[int], None], fail: Fail
    ) -> bool:
        assert self.telemetry is not None
        accepted = self.telemetry.submit(peer.principal, agent_id, metrics, timestamp, ok, fail)
        if accepted:
            self._presence.acts(peer, agent_id)
        return accepted

    def submit_batch(
        self,
        peer: Peer,
        agent_id: str,
        samples: Sequence[SubmittedSample],
        done: Callable[[int, int], None],
        fail: Fail,
    ) -> bool:
        assert self.telemetry is not None
        accepted = self.telemetry.submit_batch(peer.principal, agent_id, samples, done, fail)
        if accepted:
            self._presence.acts(peer, agent_id)
        return accepted

    # --- commands and calls

    def command(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> None:
        self._commands.call(peer, request, reply)

    def cancel(self, peer: Peer, command_id: str, reply: CommandReply) -> None:
        self._commands.cancel(peer.principal, command_id, reply)

    def cancel_for(self, principal: Principal, command_id: str, reply: CommandReply) -> None:
        self._commands.cancel(principal, command_id, reply)

    def command_state(
        self, principal: Principal, command_id: str, done: Callable[[CommandState | NexusError], None]
    ) -> None:
        self._commands.state(principal, command_id, done)

    def command_trail(
        self, principal: Principal, command_id: str, done: Callable[[list[tuple[int, bytes]] | NexusError], None]
    ) -> None:
        if not principal.admin:
            done(NexusError("forbidden", "Only administrators may read the audit trail"))
        elif self._audit is None:
            done([])
        else:
            self._audit.trail(command_id, done)

    def call(self, peer: Peer, rights: Principal, request: CallRequest, reply: CallReply) -> OpenCall:
        return self._calls.call(peer, rights, request, reply)

    def register(
        self, peer: Peer, commands: list[str], agent_id: str | None, ok: Callable[[], None], fail: Fail
    ) -> None:
        def begin(done: Callable[[], None]) -> None:
            self._registrar.register(peer, commands, agent_id, _then(ok, done), _then(fail, done))

        self._subscriptions.lines.block(peer, begin)

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
        def begin(done: Callable[[], None]) -> None:
            self._registrar.register_procedure(
                peer, rights, pattern, invoke, agent_id, _then(ok, done), _then(fail, done)
            )

        self._subscriptions.lines.block(peer, begin)

    def make_way(self, peer: Peer, pattern: Pattern, agent_id: str | None, act: Callable[[], None]) -> None:
        namesake = next(self._registry.namesakes(peer, pattern), None)
        holder = None if agent_id is None else self._presence.holder(agent_id)
        if namesake is None or (holder is not None and namesake.session == holder.number):
            act()
            return
        lines = self._subscriptions.lines

        def done() -> None:
            act()
            lines.release(peer)

        lines.hold(peer)
        namesake.probe(done)

    def registered(self, peer: Peer, number: int) -> Pattern | None:
        registrations = (callee.registration for callee in self._registry.held(peer).values())
        return next((registration.pattern for registration in registrations if registration.number == number), None)

    def unregister(self, peer: Peer, commands: list[str]) -> None:
        self._registrar.unregister(peer, commands)

    def multi_agent(self, peer: Peer) -> bool:
        return self._registry.multi_agent(peer)

    def invocation(self, peer: Peer, number: int) -> Invocation | None:
        return self._invocations.get(peer, number)

    def progress(self, peer: Peer, progress: ProgressReport) -> None:
        self._answers.progress(peer, progress)

    def result(self, peer: Peer, answer: CommandAnswer) -> None:
        self._answers.result(peer, answer)


def _then(first: Callable[P, None], after: Callable[[], None]) -> Callable[P, None]:
    def both(*arguments: P.args, **named: P.kwargs) -> None:
        first(*arguments, **named)
        after()

    return both
