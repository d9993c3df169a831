"""A realm: one world of events, commands and agents, and the verbs by which sessions act in it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from random import Random
from typing import Any, Final

from msgspec import Raw
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.arguments import values_of
from nexus_tw.commands.calls import Call, Calls
from nexus_tw.commands.invocations import Invocations
from nexus_tw.commands.registry import Executors
from nexus_tw.commands.tasks import Dealer
from nexus_tw.interfaces.peers import Fail, Invocation, Peer, Registration, Subscription
from nexus_tw.interfaces.plugins import Handler, IBus
from nexus_tw.interfaces.realm import CallReply, CallRequest, CommandReply, SubscribeReply, SubscribeRequest
from nexus_tw.model import settings
from nexus_tw.model.commands import CommandAnswer, CommandProgress, CommandRequest
from nexus_tw.model.errors import NexusError
from nexus_tw.model.events import EventMetadata
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Options, Payload
from nexus_tw.model.policy import EVERYTHING, Action, Principal
from nexus_tw.presence.agents import Presence
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.arriving import Arrivals
from nexus_tw.pubsub.cluster import Nodes
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.listener import Listener
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.pubsub.publishing import Publications
from nexus_tw.pubsub.subscribing import Subscriptions
from nexus_tw.realm.authorization import Authorization, authorizer_of
from nexus_tw.realm.meta_api import Procedures
from nexus_tw.runtime.client_log import ClientLog
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.runtime.spread import Spread
from nexus_tw.telemetry.intake import Telemetry

_guarded: Final = Guard(__name__, "A session that has ended could not be forgotten")


class Realm:
    """Provides `nexus_tw.interfaces.realm.Verbs`. What happens in one realm is not seen in another."""

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
    ) -> None:
        """`end_of_turn` calls back at the end of the reactor turn; `everybody` gives the peers that broadcasts are for. Raises
        `ConfigError` for an authorizer that there is not."""
        self.name = name
        self.strict = rules.uris == "strict"
        self.discloses = rules.disclose
        self.bus = bus
        self.telemetry: Telemetry | None = None
        self._roster = Roster()
        self._journal = ClientLog("calls", clock, metrics)
        hub = Hub(end_of_turn, metrics, clock.seconds)
        self._meta = Meta(hub)
        self._subscriptions = Subscriptions(bus, hub, limits, metrics, self._meta)
        arrivals = Arrivals(hub, self._subscriptions, self._roster, metrics)
        self._nodes = Nodes(bus, clock, everybody, arrivals)
        self.publications = Publications(bus, limits, metrics, self._nodes.tell_gap)
        self.listener = Listener(arrivals, self.publications, self._nodes)
        self.waiting: Container[Peer] = self._subscriptions.lines.waiting
        self._spread = Spread(clock)
        self._presence = Presence(self.publications.announce, clock, limits, metrics, self._spread)
        executed: dict[str, Handler] = {
            command: partial(PluginRunner(f"The handler of {command}", "give it `thread = true`").run, handler)
            for command, handler in handlers.items()
        }
        self._executors = Executors(random)
        self._invocations = Invocations(limits)
        self._dealer = Dealer(
            clock,
            self.publications.announce,
            self._presence,
            self._spread,
            executed,
            self._executors,
            self._invocations,
            self._meta,
            limits,
            metrics,
            self._journal,
            rules.disclose,
        )
        self._procedures = Procedures(
            hub,
            self._subscriptions,
            self.publications,
            self._executors,
            self._dealer,
            self._roster,
            self.authorize,
            metrics,
            limits,
            rules.disclose,
        )
        self._calls = Calls(
            clock,
            self._executors,
            self._invocations,
            executed,
            self._procedures.table,
            metrics,
            limits,
            rules.disclose,
            self._journal,
        )
        self._limits = limits
        authorizer = authorizer_of(name, rules, self._ask)
        self._authorization = (
            Authorization(name, authorizer, clock, limits, metrics) if authorizer is not None else None
        )

    def store(self, telemetry: Telemetry) -> None:
        """This realm has telemetry."""
        self.telemetry = telemetry
        self._procedures.serve_telemetry(telemetry, self._presence.acts)

    def stop(self) -> None:
        """Nobody is connected any more: do what is left to do for those who were."""
        self._spread.finish()

    # --- sessions

    def join(self, peer: Peer) -> None:
        self._roster.add(peer)
        self._meta.joined(peer)

    def gone(self, peer: Peer) -> None:
        if self._roster.remove(peer):
            for forget in (
                self._subscriptions.gone,
                self._dealer.lost,
                self._presence.gone,
                self._procedures.gone,
                self._meta.left,
            ):
                _guarded(forget, peer)

    def overran(self, peer: Peer) -> None:
        self._invocations.overran(peer)

    def queue(self, peer: Peer, size: int, act: Callable[[], None]) -> None:
        self._subscriptions.lines.place(peer, size).ready(act)

    def authorize(
        self,
        peer: Peer,
        action: Action,
        uri: str,
        pattern: Pattern | None,
        allowed: Callable[[Principal], None],
        denied: Fail,
        payload: Payload | None = None,
    ) -> None:
        lines = self._subscriptions.lines
        principal = peer.principal
        authorization = self._authorization
        if authorization is None:
            granted = True  # what is called for looks at the rights itself
        elif action == "call":
            granted = self._calls.granted(principal, uri)
        else:
            granted = authorization.grants(principal, action, uri, pattern)
        if granted and not lines.waits(peer):
            allowed(principal)
            return
        if action == "call":
            denied = self._told(peer, uri, denied)
        try:
            place = lines.place(peer, 0 if payload is None else payload.size)
        except NexusError as error:
            denied(error)
            return
        if granted or authorization is None:
            place.ready(lambda: allowed(principal))
        else:
            authorization.ask(
                principal,
                action,
                self._calls.named(uri) if action == "call" else uri,
                lambda: place.ready(lambda: allowed(EVERYTHING)),
                lambda error: place.ready(lambda: denied(error)),
                pattern,
            )

    def _told(self, peer: Peer, uri: str, denied: Fail) -> Fail:
        """The same, and the journal hears of the call that was not allowed."""

        def fail(error: NexusError) -> None:
            who = peer.principal
            self._journal.called(who.account, who.subject, uri, f"refused: {error.code}")
            denied(error)

        return fail

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
        ok: Callable[[], None],
        fail: Fail,
        metadata: EventMetadata | None = None,
    ) -> None:
        self.publications.publish(rights, event_type, payload, ok, fail, metadata)

    def check_publish(self, rights: Principal, event_type: str, member: str) -> None:
        self.publications.check(rights, event_type, member)

    def broadcast(self, rights: Principal, data: bytes, ok: Callable[[int], None], fail: Fail) -> None:
        if rights.admin:
            self._nodes.broadcast(Raw(data), ok, fail)
        else:
            fail(NexusError("forbidden", "Only administrators may broadcast"))

    def lost(self, event_type: str) -> None:
        self.publications.missed(event_type)

    # --- telemetry

    def submit(
        self, peer: Peer, agent_id: str, metrics: Raw, timestamp: str | None, ok: Callable[[int], None], fail: Fail
    ) -> None:
        assert self.telemetry is not None
        if self.telemetry.submit(peer.principal, agent_id, metrics, timestamp, ok, fail):
            self._presence.acts(peer, agent_id)

    # --- commands and calls

    def command(self, peer: Peer, request: CommandRequest, reply: CommandReply) -> None:
        self._dealer.call(peer, request, reply)

    def cancel(self, peer: Peer, command_id: str, reply: CommandReply) -> None:
        self._dealer.cancel(peer.principal, command_id, reply)

    def call(self, peer: Peer, rights: Principal, request: CallRequest, reply: CallReply) -> Call:
        return self._calls.call(peer, rights, request, reply)

    def register(self, peer: Peer, commands: list[str], agent_id: str | None) -> None:
        self._dealer.register(peer, commands, agent_id)

    def register_procedure(
        self, peer: Peer, rights: Principal, pattern: Pattern, invoke: str, agent_id: str | None
    ) -> Registration:
        return self._dealer.register_procedure(peer, rights, pattern, invoke, agent_id)

    def make_way(self, peer: Peer, pattern: Pattern, agent_id: str | None, act: Callable[[], None]) -> None:
        namesakes = self._executors.namesakes(peer, pattern)
        if not namesakes or (agent_id is not None and namesakes[0] is self._presence.holder(agent_id)):
            act()
            return
        lines = self._subscriptions.lines

        def done() -> None:
            act()
            lines.release(peer)

        lines.hold(peer)
        namesakes[0].probe(done)

    def registered(self, peer: Peer, number: int) -> Pattern | None:
        held = self._executors.registrations(peer).values()
        return next((registration.pattern for registration in held if registration.number == number), None)

    def unregister(self, peer: Peer, commands: list[str]) -> None:
        self._dealer.unregister(peer, commands)

    def several(self, peer: Peer) -> bool:
        return self._executors.several(peer)

    def invocation(self, peer: Peer, number: int) -> Invocation | None:
        return self._invocations.get(peer, number)

    def progress(self, peer: Peer, progress: CommandProgress) -> None:
        self._dealer.progress(peer, progress)

    def result(self, peer: Peer, answer: CommandAnswer) -> None:
        self._dealer.result(peer, answer)

    # ---

    def _ask(self, procedure: str, args: list[Any], done: Callable[[Any], None]) -> None:
        """Calls a procedure of the realm for the server itself."""
        try:
            self._calls.ask(procedure, args, self._limits.authorizer, _Question(done))
        except NexusError as error:
            done(error)


class _Question:
    """Who waits for what a procedure answers to the server itself: its first positional result, or the error."""

    def __init__(self, done: Callable[[Any], None]) -> None:
        self._done = done

    def progress(self, payload: Payload, options: Options) -> None:
        pass

    def result(self, payload: Payload, _options: Options) -> None:
        args, _ = values_of(payload)
        self._done(args[0] if args else None)

    def error(self, error: NexusError) -> None:
        self._done(error)
