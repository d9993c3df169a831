"""WAMP's meta API for one realm on this node: procedures `wamp.GROUP.NAME` about sessions, subscriptions and registrations.

Only administrators may end other sessions, or remove their subscriptions and registrations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nexus_tw.commands.arguments import Arguments, answer
from nexus_tw.commands.procedures import Procedure
from nexus_tw.commands.registering import Registrar
from nexus_tw.commands.registry import Registry, SharedRegistration
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import CallReply
from nexus_tw.model.errors import (
    DISCONNECTED,
    NO_SUCH_REGISTRATION,
    NO_SUCH_SESSION,
    NO_SUCH_SUBSCRIPTION,
    NORMAL,
    NexusError,
    invalid,
)
from nexus_tw.model.names import Pattern, is_name
from nexus_tw.model.payloads import Payload
from nexus_tw.presence.sessions import Roster
from nexus_tw.protocols.wamp.uris import is_pattern, pattern_of
from nexus_tw.pubsub.groups import Bucket
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.meta_events import details, session_details
from nexus_tw.pubsub.subscribing import Subscriptions
from nexus_tw.runtime.guard import Guard

_guarded: Final = Guard(__name__, "A session could not be ended")


class MetaApi:
    """The procedures of the meta API; `procedures` is by name."""

    def __init__(
        self, hub: Hub, subscriptions: Subscriptions, registry: Registry, registrar: Registrar, roster: Roster
    ) -> None:
        self._hub = hub
        self._subscriptions = subscriptions
        self._registry = registry
        self._roster = roster
        self._registrar = registrar
        self.procedures: dict[str, Procedure] = {
            "wamp.session.count": self._session_count,
            "wamp.session.list": self._session_list,
            "wamp.session.get": self._session_get,
            "wamp.session.kill": self._kill,
            "wamp.session.kill_by_authid": self._kill_by_authid,
            "wamp.session.kill_by_authrole": self._kill_by_authrole,
            "wamp.session.kill_all": self._kill_all,
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
        """End these sessions except the caller's own. Return their ids. The right was checked before."""
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

    def _registration(self, payload: Payload) -> SharedRegistration:
        registration = self._registry.numbered(Arguments(payload).number(0, "registration"))
        if registration is None:
            raise NO_SUCH_REGISTRATION.error("No such registration")
        return registration

    def _registration_list(self, _peer: Peer, _payload: Payload, reply: CallReply) -> None:
        _list(reply, self._registry)

    def _list_callees(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, _callees(self._registration(payload)))

    def _count_callees(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, len(_callees(self._registration(payload))))

    def _registration_get(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._registration(payload)
        answer(reply, details(registration, invoke=registration.invoke))

    def _registration_lookup(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._registry.registration(_pattern(Arguments(payload), "procedure"))
        answer(reply, None if registration is None else registration.number)

    def _registration_match(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._registry.find(Arguments(payload).take(0, "procedure", str))
        answer(reply, None if registration is None else registration.number)

    def _remove_callee(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        registration = self._registration(payload)
        number = Arguments(payload).number(1, "callee")
        reason = Arguments(payload).take(2, "reason", str, "")
        callee = next((callee.peer for callee in registration.callees if callee.peer.number == number), None)
        if callee is None:
            raise NO_SUCH_SESSION.error("No such session")
        self._registrar.unregister(callee, [registration.pattern.text])
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


def _list(reply: CallReply, found: Iterable[Bucket | SharedRegistration]) -> None:
    listed: dict[str, list[int]] = {"exact": [], "prefix": [], "wildcard": []}
    for one in found:
        listed[one.pattern.match].append(one.number)
    answer(reply, listed)


def _callees(registration: SharedRegistration) -> list[int]:
    return list(dict.fromkeys(callee.peer.number for callee in registration.callees))


def _administrator(peer: Peer) -> None:
    if not peer.principal.admin:
        raise NexusError("forbidden", "Only administrators may do this")


def _nothing() -> None:
    pass
