"""Composes one node: makes every part and passes it its dependencies."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from random import SystemRandom
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.web.server import Request, Site

from nexus_tw import auth
from nexus_tw.auth import Authenticators
from nexus_tw.auth.revocations import Revocations
from nexus_tw.auth.standing import Standing
from nexus_tw.auth.wamp.introductions import Introductions
from nexus_tw.commands.audit import Audit
from nexus_tw.commands.stored import StoredLedger
from nexus_tw.commands.threads import Threads
from nexus_tw.interfaces.ledger import IAudit, IKeepsCommands
from nexus_tw.interfaces.plugins import Handler, IBus, IRevoked, IStore
from nexus_tw.interfaces.sessions import Dialect
from nexus_tw.model.budgets import follow
from nexus_tw.model.errors import REVOKED, Close
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.room import Room
from nexus_tw.model.serializers import CODECS, Codec
from nexus_tw.model.settings import DEFAULT_REALM, Settings, renew
from nexus_tw.net.https import https_agent
from nexus_tw.protocols import frames
from nexus_tw.protocols.echo import EchoDialect
from nexus_tw.protocols.native.session import JsonDialect
from nexus_tw.protocols.sse.session import StreamDialect
from nexus_tw.protocols.wamp.dialect import WampDialect
from nexus_tw.protocols.wamp.encoding import WampFrames
from nexus_tw.realm.realm import Realm
from nexus_tw.runtime.guard import Guard
from nexus_tw.runtime.plugin_runner import PluginRunner
from nexus_tw.runtime.turn import Turn
from nexus_tw.runtime.walltime import wall
from nexus_tw.store import parse_duration
from nexus_tw.telemetry.intake import Announce, Telemetry
from nexus_tw.transport.admission import Admission, Way
from nexus_tw.transport.connections import Connections, Open
from nexus_tw.transport.conversation import Conversation
from nexus_tw.transport.door import Doors
from nexus_tw.transport.heartbeat import Pulse
from nexus_tw.transport.http.administration import Administration
from nexus_tw.transport.http.agents import Agents
from nexus_tw.transport.http.api import Api
from nexus_tw.transport.http.commands import CommandStates
from nexus_tw.transport.http.past import Past
from nexus_tw.transport.http.routes import Root
from nexus_tw.transport.http.site import BoundedSite
from nexus_tw.transport.http.status import Status
from nexus_tw.transport.http.stream import EventStreams
from nexus_tw.transport.opening import EVENTS
from nexus_tw.transport.oversight import Oversight
from nexus_tw.transport.rawsocket import RawSockets
from nexus_tw.transport.revoking import Revoking
from nexus_tw.transport.websocket import Doorway

WAMP = "/ws"
BODY_MESSAGES = 16  # messages of the largest size that a request's body may hold


HELD = (  # what clients have here
    *("agents", "agents_leaving", "commands_open", "commands_followed", "registrations", "subscriptions"),
)
PARTING = 100  # connections closed at once by a review
PARTING_PAUSE = 0.1  # s until the next ones

_guarded = Guard(__name__, "A connection could not be closed")


class Server:
    """A node: its core, and the factory (`doors`) for its listening endpoints."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        buses: Mapping[str, IBus],
        store: IStore,
        authenticators: Authenticators,
        commands: Mapping[str, Handler],
        metrics: Metrics,
        descriptors: int,
        threads: Threads,
    ) -> None:
        """`buses` by realm; `descriptors` bounds the connections of the process; `threads` execute its handlers."""
        self._reactor = reactor
        self._store = store
        self._outside = PluginRunner("The store or the bus")  # either may be the operator's own
        self._drain = settings.drain
        self._started = False
        # The parts keep these objects and read them when needed: `reconfigure` changes their values.
        limits = self._limits = copy(settings.limits)
        http = self._http = copy(settings.http)
        self._authenticators = authenticators
        self._standing = Standing(settings)
        self._reviews: set[IDelayedCall] = set()
        random = SystemRandom()

        retention = parse_duration(settings.store.retention, "store.retention")

        def telemetry(announce: Announce) -> Telemetry:
            return Telemetry(store, announce, reactor, metrics, limits, retention)

        turn = Turn(reactor)
        self.connections = Connections(reactor, limits, descriptors, random)
        audits = {
            name: Audit(store, self._outside, name, reactor, metrics) for name in settings.realms if IAudit.providedBy(store)
        }
        self.realms = {
            name: Realm(
                name,
                rules,
                buses[name],
                turn.add,
                reactor,
                random,
                limits,
                metrics,
                commands if name == DEFAULT_REALM else {},
                self.connections.peers if name == DEFAULT_REALM else tuple,
                settings.history,
                telemetry if name == DEFAULT_REALM else None,
                (
                    StoredLedger(store, self._outside, name, reactor, metrics, Room(limits), audits.get(name))
                    if IKeepsCommands.providedBy(store)
                    else None
                ),
                settings.presence.grace,
                audits.get(name),
            )
            for name, rules in settings.realms.items()
        }
        realm = self.realms[DEFAULT_REALM]
        assert realm.telemetry is not None
        self.telemetry = realm.telemetry

        json = JsonDialect(
            realm,
            settings.heartbeat,
            limits,
            metrics,
            partial(wall, reactor),
            lambda: secrets.token_urlsafe(12),
            self.connections.return_window,
        )
        introductions = self._introductions = Introductions(
            settings.realms, settings.auth, settings.roles, authenticators, metrics, reactor, limits
        )

        def wamp(codec: Codec, transport: str, frame: Callable[[bytes], bytes], ping: bytes) -> Dialect:
            return WampDialect(self.realms, introductions, WampFrames(codec, transport, frame), ping, limits, metrics)

        ping = frames.frame(frames.PING, b"")
        raw_ping = frames.rawsocket(b"", frames.RAW_PING)
        spoken: dict[str | None, Dialect] = {
            f"wamp.2.{name}": wamp(codec, "websocket", frames.binary if codec.binary else frames.text, ping)
            for name, codec in CODECS.items()
        }
        ways = {
            EVENTS: Way({None: json, "nexus.v1.json": json, **spoken}, limits.message),
            WAMP: Way(spoken, limits.message),
        }
        if settings.echo:
            ways["/echo"] = Way({None: EchoDialect()}, settings.echo_message)
        self._pulse = Pulse(reactor, settings.heartbeat, random)
        doorway = Doorway(
            reactor, turn, self._pulse, self.connections, limits, metrics, settings.receive_lane, settings.compression
        )
        rawsockets = RawSockets(
            reactor,
            turn,
            self._pulse,
            self.connections,
            limits,
            metrics,
            {codec.number: wamp(codec, "rawsocket", frames.rawsocket, raw_ping) for codec in CODECS.values()},
        )
        streams = EventStreams(
            reactor,
            turn,
            self._pulse,
            self.connections,
            limits,
            metrics,
            StreamDialect(realm, random, lambda: secrets.token_urlsafe(12)),
            random,
        )
        revocations = Revocations(reactor)
        authenticators.heed(revocations)
        keeper = next((one for one in (realm.bus, store) if IRevoked.providedBy(one)), None)
        self._revoking = Revoking(realm.fleet, self.connections, revocations, keeper, self._outside.awaited, reactor)
        self._oversight = Oversight(realm.fleet, self.connections, self.realms, reactor)
        admission = Admission(
            ways, authenticators, self.connections, http, metrics, reactor, limits
        )
        gauges: dict[str, Callable[[], float]] = {
            "connections": lambda: len(self.connections),
            "http_connections": lambda: self.connections.visits,
            "request_bodies_bytes": lambda: admission.bodies.taken,
            "send_queues_bytes": lambda: self.connections.backlog.bytes,
            "bus_available": lambda: all(realm.bus.available for realm in self.realms.values()),
            "history_available": lambda: all(realm.bus.history is not None for realm in self.realms.values()),
            "ready": lambda: self.unready() is None,
            "threads_running": lambda: threads.running,
            "threads_waiting": lambda: threads.waiting,
            "revocations": lambda: len(revocations),
            "timers": lambda: len(reactor.getDelayedCalls()),
            **{name: partial(self._held, name) for name in HELD},
        }
        status = Status(metrics, gauges, http, self.unready)
        api = Api(realm, limits, reactor, metrics)
        administration = Administration(self._oversight, self._revoking, reactor, metrics)
        offers = (
            status, api, Past(realm), CommandStates(realm, reactor), Agents(realm.overview), administration
        )
        routes = {path: methods for offer in offers for path, methods in offer.routes().items()}

        def make_site(upgrade: Callable[[Request], None]) -> Site:
            return BoundedSite(Root(routes, admission, upgrade), reactor, limits.headers, BODY_MESSAGES * limits.message)

        self.doors = Doors(reactor, admission, doorway, make_site, limits, rawsockets, streams)

    def _held(self, name: str) -> int:
        return sum(realm.sizes[name] for realm in self.realms.values())

    def unready(self) -> str | None:
        """Return why this node should receive no new clients; None if it should."""
        if self.connections.draining:
            return "shutting down"
        if not self._started:
            return "starting"
        if not all(realm.bus.available for realm in self.realms.values()):
            return "the event bus is away"
        return None

    def reconfigure(self, settings: Settings, token: str | None) -> None:
        """Apply these settings, as far as `nexus_tw.app.reload` lets them change.

        Raise `ConfigError` without having changed anything. Close connections that would no longer be accepted.
        """
        own = auth.builtin(settings.auth, settings.roles, token, self._reactor, https_agent(self._reactor))
        methods = self._introductions.methods(settings.realms, settings.auth, settings.roles)
        # From here on nothing fails.
        decided = max(self._limits.auth, settings.limits.auth)
        renew(self._limits, settings.limits)
        renew(self._http, settings.http)
        follow(self._limits)
        self.connections.relimit()
        self._authenticators.take(own, settings.roles)
        self._introductions.take(methods)
        self._standing = Standing(settings)
        self._review()
        # Once more for clients that were being authenticated by the former settings.
        self._later(decided, self._review)

    def _review(self) -> None:
        """Close connections that would no longer be accepted."""
        leaving: list[tuple[Open, Close]] = []
        for connection in self.connections:
            principal = cast(Conversation, connection).principal
            close = None if principal is None else self._standing.judge(principal)
            if close is not None:
                leaving.append((connection, close))
        if leaving:
            revoked = sum(close is REVOKED for _, close in leaving)
            self._log.info(
                "Closing connections after the reload: {revoked} with credentials that are gone, {changed} with fewer rights",
                revoked=revoked,
                changed=len(leaving) - revoked,
            )
            self._let_go(leaving)

    def _let_go(self, leaving: list[tuple[Open, Close]]) -> None:
        """Close a number at once that does not delay the others, then the rest."""
        for connection, close in leaving[:PARTING]:
            _guarded(connection.close, close)
        if leaving[PARTING:]:
            self._later(PARTING_PAUSE, lambda: self._let_go(leaving[PARTING:]))

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        def run() -> None:
            self._reviews.discard(call)
            work()

        call: IDelayedCall = self._reactor.callLater(seconds, run)
        self._reviews.add(call)

    async def start(self) -> None:
        """Open store and bus; raise `ConfigError`. An unreachable bus is not an error: it is retried for ever."""
        await self._outside.awaited(self._store.start())
        for realm in self.realms.values():
            await self._outside.awaited(realm.bus.start(realm.listener))
            realm.start()
        await self._revoking.start()
        await self.telemetry.load()
        self.telemetry.start()
        self._pulse.start()
        self._started = True

    async def drain(self) -> None:
        """Close every client, after acknowledging its telemetry."""
        for realm in self.realms.values():
            realm.drain()
        await self.connections.drain(self._drain, self.telemetry.settled)

    async def stop(self) -> None:
        """Close store and bus, after the last clients are gone."""
        self._pulse.stop()
        for review in self._reviews:
            review.cancel()
        self._revoking.stop()
        self._oversight.stop()
        await self.telemetry.stop()
        for realm in self.realms.values():
            realm.stop()
            await self._outside.awaited(realm.bus.stop())
        await self._outside.awaited(self._store.stop())
