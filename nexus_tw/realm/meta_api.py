"""The server's own procedures: WAMP's meta API for one realm on this node, testaments, and telemetry.

Names are `wamp.GROUP.NAME` (session, subscription, registration) and `nexus.telemetry.submit`. Ending other sessions, and
taking away what they subscribed to or registered, is for administrators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final, Protocol

import msgspec

from nexus_tw.commands.arguments import Arguments, Procedure, answer
from nexus_tw.commands.registry import Executors, Registration
from nexus_tw.commands.tasks import Dealer
from nexus_tw.interfaces.peers import Fail, Peer
from nexus_tw.interfaces.realm import CallReply
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import (
    DISCONNECTED,
    NO_SUCH_REGISTRATION,
    NO_SUCH_SESSION,
    NO_SUCH_SUBSCRIPTION,
    NORMAL,
    NexusError,
    invalid,
)
from nexus_tw.model.events import EventMetadata, Publisher, Rule, new_publication_id
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern, is_name
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Action, Principal
from nexus_tw.model.serializers import JSON
from nexus_tw.model.settings import Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.protocols.wamp.heads import read
from nexus_tw.protocols.wamp.messages import PublishOptions
from nexus_tw.protocols.wamp.uris import is_pattern, pattern_of
from nexus_tw.pubsub.groups import Bucket
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.meta_events import details, session_details
from nexus_tw.pubsub.publishing import Publications, check_free
from nexus_tw.pubsub.subscribing import Subscriptions
from nexus_tw.runtime.guard import Guard
from nexus_tw.telemetry.intake import Telemetry

SUBMIT: Final = "nexus.telemetry.submit"
MOST_TESTAMENTS: Final = 64  # of one session, of all scopes
TESTAMENT_BYTES: Final = 67108864  # of all sessions of a realm on this node
SCOPES: Final = ("detached", "destroyed")  # in the order in which they are published: no session is resumed

_SESSIONS: Final = frozenset(("exclude", "eligible"))  # of `Rule`; the others are text

_Testament = tuple[str, Payload, EventMetadata, int]  # topic, what is left to be said, and for how many bytes it counts


class Authorize(Protocol):
    """`Verbs.authorize`."""

    def __call__(
        self,
        peer: Peer,
        action: Action,
        uri: str,
        pattern: Pattern | None,
        allowed: Callable[[Principal], None],
        denied: Fail,
        payload: Payload | None = None,
    ) -> None: ...


_guarded: Final = Guard(__name__, "A session could not be ended")


class Procedures:
    """Makes them for one realm; `table` is name and procedure."""

    def __init__(
        self,
        hub: Hub,
        subscriptions: Subscriptions,
        publications: Publications,
        executors: Executors,
        dealer: Dealer,
        roster: Roster,
        authorize: Authorize,
        metrics: Metrics,
        limits: Limits,
        disclose: bool,
    ) -> None:
        """`authorize` finds out what a peer may do, as for its requests. With `disclose` a testament always says who left
        it."""
        self._hub = hub
        self._subscriptions = subscriptions
        self._publications = publications
        self._executors = executors
        self._roster = roster
        self._authorize = authorize
        self._metrics = metrics
        self._depth = limits.depth
        self._disclose = disclose
        self._kept = Budget("testaments", TESTAMENT_BYTES, limits, metrics)
        self._testaments: dict[Peer, dict[str, list[_Testament]]] = {}  # by scope, in the order of `SCOPES`
        self._dealer = dealer
        self.table: dict[str, Procedure] = {
            "wamp.session.count": self._session_count,
            "wamp.session.list": self._session_list,
            "wamp.session.get": self._session_get,
            "wamp.session.kill": self._kill,
            "wamp.session.kill_by_authid": self._kill_by_authid,
            "wamp.session.kill_by_authrole": self._kill_by_authrole,
            "wamp.session.kill_all": self._kill_all,
            "wamp.session.add_testament": self._add_testament,
            "wamp.session.flush_testaments": self._flush_testaments,
            "wamp.subscription.list": self._subscription_list,
            "wamp.subscription.lookup": self._subscription_lookup,
            "wamp.subscription.match": self._subscription_match,
            "wamp.subscription.get": self._subscription_get,
            "wamp.subscription.list_subscribers": self._list_subscribers,
            "wamp.subscription.count_subscribers": self._count_subscribers,
            "wamp.subscription.remove_subscriber": self._remove_subscriber,
            "wamp.registration.list": self._registration_list,
            "wamp.registration.lookup": self._registration_lookup,
            "wamp.registration.match": self._registration_match,
            "wamp.registration.get": self._registration_get,
            "wamp.registration.list_callees": self._list_callees,
            "wamp.registration.count_callees": self._count_callees,
            "wamp.registration.remove_callee": self._remove_callee,
        }

    def serve_telemetry(self, telemetry: Telemetry, acts: Callable[[Peer, str], object]) -> None:
        """Has the realm take telemetry; `acts` is told for which agent a session sends it."""

        def submit(peer: Peer, payload: Payload, reply: CallReply) -> None:
            arguments = Arguments(payload)
            agent_id = arguments.take(0, "agentId", str)
            metrics = msgspec.Raw(JSON.encode(arguments.take(1, "metrics", dict)))
            timestamp = arguments.take(2, "timestamp", str, None)
            if telemetry.submit(peer.principal, agent_id, metrics, timestamp, lambda _millis: answer(reply), reply.error):
                acts(peer, agent_id)

        self.table[SUBMIT] = submit

    def gone(self, peer: Peer) -> None:
        """The session has ended: what it left to be said then is published."""
        for topic, payload, metadata, size in chain.from_iterable(self._testaments.pop(peer, {}).values()):
            self._kept.give_back(peer.principal.account, size)
            self._publish(peer, topic, payload, metadata)

    def _publish(self, peer: Peer, topic: str, payload: Payload, metadata: EventMetadata) -> None:
        """Publishes a testament, if that is allowed now: whoever left it may have lost the right meanwhile."""

        def allowed(rights: Principal) -> None:
            self._publications.publish(rights, topic, payload, _nothing, lost, metadata)

        def lost(error: NexusError) -> None:
            self._metrics.events_dropped["testament"] += 1
            if error.code == "bus_unavailable":  # and its publisher is gone
                self._publications.missed(topic)

        self._authorize(peer, "publish", topic, None, allowed, lost)

    # --- sessions

    def _session_count(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, self._roster.count(Arguments(payload).texts(0, "filter_authroles")))

    def _session_list(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, self._roster.numbers(Arguments(payload).texts(0, "filter_authroles")))

    def _session_get(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, session_details(self._session(Arguments(payload).number(0, "session"))))

    def _kill(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        arguments = Arguments(payload)
        target = self._session(arguments.number(0, "session"))
        if target is peer:
            raise NO_SUCH_SESSION.error("No such session")
        self._end(peer, arguments, [target])
        answer(reply)

    def _kill_by_authid(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        arguments = Arguments(payload)
        authid = arguments.take(0, "authid", str)
        answer(reply, self._end(peer, arguments, [one for one in self._roster if one.principal.subject == authid]))

    def _kill_by_authrole(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        arguments = Arguments(payload)
        role = arguments.take(0, "authrole", str)
        answer(reply, len(self._end(peer, arguments, [one for one in self._roster if one.principal.role == role])))

    def _kill_all(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        answer(reply, len(self._end(peer, Arguments(payload), self._roster)))

    def _end(self, peer: Peer, arguments: Arguments, targets: Iterable[Peer]) -> list[int]:
        """Ends these sessions, but never the one that asks for it; which they were. The right was checked before."""
        reason = arguments.uri("reason", NORMAL)
        close = DISCONNECTED._replace(uri=reason, message=arguments.take(None, "message", str, None) or "")
        ended = []
        for target in targets:
            if target is not peer:
                _guarded(target.close, close)
                ended.append(target.number)
        return ended

    def _session(self, number: int) -> Peer:
        peer = self._roster.get(number)
        if peer is None:
            raise NO_SUCH_SESSION.error("No such session")
        return peer

    # --- testaments

    def _add_testament(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        arguments = Arguments(payload)
        topic = arguments.take(0, "topic", str)
        args = arguments.take(1, "args", list, None)
        kwargs = arguments.take(2, "kwargs", dict, None)
        options = _publish_options(arguments.take(None, "publish_options", dict, None) or {})
        scope = _scope(arguments)
        check_free(topic, "topic")
        self._room_for_testament(peer)
        left = Payload.of_arguments(JSON, JSON.encode(args or []), JSON.encode(kwargs or {}), self._depth)
        size = left.size
        publisher = Publisher(peer.number, peer.principal.subject, peer.principal.role)
        disclosed = self._disclose or options.disclose_me
        metadata = EventMetadata(
            new_publication_id(), left.shape, publisher if disclosed else None, _rule(options), options.passed_on
        )

        def allowed(rights: Principal) -> None:
            if self._roster.get(peer.number) is not peer:
                return  # it is gone
            try:
                self._publications.check(rights, topic, "topic")
                self._room_for_testament(peer)
            except NexusError as error:
                reply.error(error)
                return
            try:
                self._kept.take(peer.principal.account, size)
            except NexusError as error:
                reply.error(error)
                return
            scopes = self._testaments.setdefault(peer, {scope: [] for scope in SCOPES})
            scopes[scope].append((topic, left, metadata, size))
            answer(reply)

        self._authorize(peer, "publish", topic, None, allowed, reply.error, left)

    def _room_for_testament(self, peer: Peer) -> None:
        if sum(map(len, self._testaments.get(peer, {}).values())) >= MOST_TESTAMENTS:
            raise NexusError("limit_exceeded", f"More than {MOST_TESTAMENTS} testaments")

    def _flush_testaments(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        scope = _scope(Arguments(payload))
        flushed = self._testaments.get(peer, {}).get(scope, [])
        answer(reply, len(flushed))
        self._kept.give_back(peer.principal.account, sum(size for _, _, _, size in flushed))
        flushed.clear()

    # --- subscriptions

    def _subscription(self, payload: Payload) -> Bucket:
        bucket = self._hub.numbered(Arguments(payload).number(0, "subscription"))
        if bucket is None:
            raise NO_SUCH_SUBSCRIPTION.error("No such subscription")
        return bucket

    def _subscription_list(self, _peer: Peer, _payload: Payload, reply: CallReply) -> None:
        _list(reply, self._hub.buckets())

    def _subscription_get(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, details(self._subscription(payload)))

    def _list_subscribers(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, [peer.number for peer in self._subscription(payload).peers()])

    def _count_subscribers(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, self._subscription(payload).subscribers)

    def _subscription_lookup(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        bucket = self._hub.bucket(_pattern(Arguments(payload), "topic"))
        answer(reply, None if bucket is None else bucket.number)

    def _subscription_match(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        topic = Arguments(payload).take(0, "topic", str)
        found = self._hub.matching(topic) if is_name(topic) else []
        answer(reply, [bucket.number for bucket in found] or None)

    def _remove_subscriber(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        bucket = self._subscription(payload)
        number = Arguments(payload).number(1, "subscriber")
        reason = Arguments(payload).take(2, "reason", str, "")
        for subscriber in bucket.peers():
            if subscriber.number == number:
                self._subscriptions.unsubscribe(subscriber, [bucket.pattern.text], _nothing)
                subscriber.unsubscribed(bucket, reason)
                answer(reply)
                return
        raise NO_SUCH_SESSION.error("No such session")

    # --- registrations

    def _registration(self, payload: Payload) -> Registration:
        registration = self._executors.numbered(Arguments(payload).number(0, "registration"))
        if registration is None:
            raise NO_SUCH_REGISTRATION.error("No such registration")
        return registration

    def _registration_list(self, _peer: Peer, _payload: Payload, reply: CallReply) -> None:
        _list(reply, self._executors)

    def _list_callees(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, _callees(self._registration(payload)))

    def _count_callees(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, len(_callees(self._registration(payload))))

    def _registration_get(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._registration(payload)
        answer(reply, details(registration, invoke=registration.invoke))

    def _registration_lookup(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._executors.registration(_pattern(Arguments(payload), "procedure"))
        answer(reply, None if registration is None else registration.number)

    def _registration_match(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._executors.find(Arguments(payload).take(0, "procedure", str))
        answer(reply, None if registration is None else registration.number)

    def _remove_callee(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        registration = self._registration(payload)
        number = Arguments(payload).number(1, "callee")
        reason = Arguments(payload).take(2, "reason", str, "")
        callee = next((executor.peer for executor in registration.executors if executor.peer.number == number), None)
        if callee is None:
            raise NO_SUCH_SESSION.error("No such session")
        self._dealer.unregister(callee, [registration.pattern.text])
        callee.unregistered(registration, reason)
        answer(reply)


def _pattern(arguments: Arguments, name: str) -> Pattern:
    uri = arguments.take(0, name, str)
    options = arguments.take(1, "options", dict, None) or {}
    match = options.get("match", "exact")
    if match not in ("exact", "prefix", "wildcard"):
        raise invalid("match", "must be exact, prefix or wildcard")
    if not is_pattern(uri, match, strict=False):
        raise invalid(name, "is no URI")
    return pattern_of(uri, match)


def _list(reply: CallReply, found: Iterable[Bucket | Registration]) -> None:
    listed: dict[str, list[int]] = {"exact": [], "prefix": [], "wildcard": []}
    for one in found:
        listed[one.pattern.match].append(one.number)
    answer(reply, listed)


def _callees(registration: Registration) -> list[int]:
    return list(dict.fromkeys(executor.peer.number for executor in registration.executors))


def _administrator(peer: Peer) -> None:
    if not peer.principal.admin:
        raise NexusError("forbidden", "Only administrators may do this")


def _scope(arguments: Arguments) -> str:
    scope: str = arguments.take(None, "scope", str, "destroyed")
    if scope not in SCOPES:
        raise invalid("scope", "must be destroyed or detached")
    return scope


def _publish_options(given: dict[str, Any]) -> PublishOptions:
    try:
        options: PublishOptions = read(given, PublishOptions)
    except msgspec.ValidationError as error:
        raise invalid("publish_options", str(error)) from None
    if options.enc_algo is not None:
        raise invalid("publish_options.enc_algo", "is of no use: a testament has args and kwargs")
    return options


def _rule(options: PublishOptions) -> Rule | None:
    given = {name: getattr(options, name) for name in Rule.__struct_fields__}
    listed: dict[str, Any] = {
        name: names if name in _SESSIONS else frozenset(names) for name, names in given.items() if names is not None
    }
    return Rule(**listed) if listed else None


def _nothing() -> None:
    pass
