"""WAMP's meta API for one realm, over all its nodes: procedures `wamp.GROUP.NAME` about sessions, subscriptions and
registrations. An answer tells of all nodes, or it is an error, unless what some have answered settles it: what was found is
where it is, and sessions are ended on all nodes that answer.

Only administrators may end other sessions, or remove their subscriptions and registrations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, Final

from nexus_tw.commands.arguments import Arguments, answer
from nexus_tw.commands.procedures import Procedure
from nexus_tw.commands.registering import Registrar
from nexus_tw.commands.registry import Registry, SharedRegistration
from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import CallReply
from nexus_tw.model.errors import (
    DISCONNECTED,
    NO_SUCH_REGISTRATION,
    NO_SUCH_SESSION,
    NO_SUCH_SUBSCRIPTION,
    NORMAL,
    Narrower,
    NexusError,
    invalid,
)
from nexus_tw.model.names import Pattern, is_name
from nexus_tw.model.payloads import Payload
from nexus_tw.presence.sessions import Roster
from nexus_tw.protocols.wamp.uris import is_pattern, pattern_of
from nexus_tw.pubsub.facts import SessionFacts, SubscriptionFacts, registration_details
from nexus_tw.pubsub.groups import Bucket
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.subscribing import Subscriptions
from nexus_tw.realm.everywhere import Everywhere
from nexus_tw.runtime.guard import Guard

MATCHES: Final = ("exact", "prefix", "wildcard")

_guarded: Final = Guard(__name__, "A session could not be ended")


class MetaApi:
    """The procedures of the meta API; `procedures` is by name."""

    def __init__(
        self,
        fleet: Fleet,
        hub: Hub,
        subscriptions: Subscriptions,
        registry: Registry,
        registrar: Registrar,
        roster: Roster,
    ) -> None:
        self._hub = hub
        self._subscriptions = subscriptions
        self._registry = registry
        self._roster = roster
        self._registrar = registrar
        self._everywhere = Everywhere(
            fleet,
            {
                "count": roster.count,
                "numbers": roster.numbers,
                "session": self._session,
                "end": self._end,
                "subscriptions": self._subscriptions_here,
                "subscription": self._subscription,
                "subscribers": self._subscribers_here,
                "lookup": self._lookup,
                "matching": self._matching,
                "remove": self._remove,
                "unregister": self._unregister,
                "pattern": self._pattern_text,
            },
        )
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
        roles = Arguments(payload).texts(0, "filter_authroles")
        self._everywhere.ask(reply, "count", roles, then=lambda counts: answer(reply, sum(counts)))

    def _session_list(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        roles = Arguments(payload).texts(0, "filter_authroles")
        self._everywhere.ask(reply, "numbers", roles, then=lambda lists: answer(reply, [*chain(*lists)]))

    def _session_get(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        number = Arguments(payload).number(0, "session")
        here = self._session(number)
        if here is not None:
            answer(reply, here)
        else:
            self._everywhere.ask(
                reply,
                "session",
                number,
                then=lambda found: answer(reply, _first(found, NO_SUCH_SESSION, "session")),
                enough=any,
            )

    def _kill(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        arguments = Arguments(payload)
        number = arguments.number(0, "session")
        words = _words(arguments)

        def ended(lists: list[list[int]]) -> None:
            if not any(lists):
                raise NO_SUCH_SESSION.error("No such session")
            answer(reply)

        if self._roster.get(number) is not None:
            ended([self._end("session", number, peer.number, *words)])
        else:
            self._everywhere.ask(reply, "end", "session", number, peer.number, *words, then=ended, enough=any)

    def _kill_by_authid(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        arguments = Arguments(payload)
        authid, words = arguments.take(0, "authid", str), _words(arguments)
        self._end_all(reply, "authid", authid, peer, words, lambda lists: answer(reply, [*chain(*lists)]))

    def _kill_by_authrole(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        arguments = Arguments(payload)
        role, words = arguments.take(0, "authrole", str), _words(arguments)
        self._end_all(reply, "authrole", role, peer, words, lambda lists: answer(reply, sum(map(len, lists))))

    def _kill_all(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        words = _words(Arguments(payload))
        self._end_all(reply, "all", None, peer, words, lambda lists: answer(reply, sum(map(len, lists))))

    def _end_all(
        self,
        reply: CallReply,
        by: str,
        value: str | None,
        peer: Peer,
        words: tuple[str, str],
        then: Callable[[list[list[int]]], None],
    ) -> None:
        """End all sessions selected by this value. A node that does not answer ends its own later, if it is not given up
        before; what the others have ended is over already, so that an error would tell less."""
        self._everywhere.ask(reply, "end", by, value, peer.number, *words, then=then, enough=lambda _lists: True)

    # --- subscriptions

    def _subscription_list(self, _peer: Peer, _payload: Payload, reply: CallReply) -> None:
        def then(lists: list[dict[str, list[int]]]) -> None:
            answer(reply, {match: _union(each[match] for each in lists) for match in MATCHES})

        self._everywhere.ask(reply, "subscriptions", then=then)

    def _subscription_get(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        def then(found: list[list[Any] | None]) -> None:
            facts = [SubscriptionFacts(*each) for each in found if each is not None]
            if not facts:
                raise NO_SUCH_SUBSCRIPTION.error("No such subscription")
            answer(reply, facts[0]._replace(created=min(each.created for each in facts)).details)

        self._everywhere.ask(reply, "subscription", Arguments(payload).number(0, "subscription"), then=then)

    def _list_subscribers(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        self._subscribers(payload, reply, lambda numbers: numbers)

    def _count_subscribers(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        self._subscribers(payload, reply, len)

    def _subscribers(self, payload: Payload, reply: CallReply, told: Callable[[list[int]], Any]) -> None:
        def then(lists: list[list[int]]) -> None:
            numbers = [*chain(*lists)]
            if not numbers:
                raise NO_SUCH_SUBSCRIPTION.error("No such subscription")
            answer(reply, told(numbers))

        self._everywhere.ask(reply, "subscribers", Arguments(payload).number(0, "subscription"), then=then)

    def _subscription_lookup(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        pattern = _pattern(Arguments(payload), "topic")
        bucket = self._hub.bucket(pattern)
        if bucket is not None:
            answer(reply, bucket.number)
            return
        match, uri = pattern.policy

        def then(found: list[int | None]) -> None:
            answer(reply, next((number for number in found if number is not None), None))

        self._everywhere.ask(reply, "lookup", uri, match, then=then, enough=any)

    def _subscription_match(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        topic = Arguments(payload).take(0, "topic", str)
        self._everywhere.ask(reply, "matching", topic, then=lambda lists: answer(reply, _union(lists) or None))

    def _remove_subscriber(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        arguments = Arguments(payload)
        number = arguments.number(0, "subscription")

        def then(answers: list[bool | None]) -> None:
            if any(answers):
                answer(reply)
            elif all(each is None for each in answers):
                raise NO_SUCH_SUBSCRIPTION.error("No such subscription")
            else:
                raise NO_SUCH_SESSION.error("No such session")

        self._everywhere.ask(
            reply,
            "remove",
            number,
            arguments.number(1, "subscriber"),
            arguments.take(2, "reason", str, ""),
            then=then,
            enough=any,
        )

    def find(self, number: int, reply: CallReply, then: Callable[[Pattern], None]) -> None:
        """Call `then` with the pattern of the subscription of this id, on whatever node it is. Raise, or reply with,
        `NO_SUCH_SUBSCRIPTION` if there is none, and with the `NexusError` that `then` raises."""
        bucket = self._hub.numbered(number)
        if bucket is not None:
            then(bucket.pattern)
            return

        def found(texts: list[str | None]) -> None:
            text = next((text for text in texts if text is not None), None)
            if text is None:
                raise NO_SUCH_SUBSCRIPTION.error("No such subscription")
            then(Pattern.of_text(text))

        self._everywhere.ask(reply, "pattern", number, then=found, enough=any)

    # --- what this node answers

    def _pattern_text(self, number: int) -> str | None:
        bucket = self._hub.numbered(number)
        return None if bucket is None else bucket.pattern.text

    def _session(self, number: int) -> dict[str, Any] | None:
        peer = self._roster.get(number)
        return None if peer is None else SessionFacts.of(peer).details

    def _end(self, by: str, value: Any, caller: int, reason: str, message: str) -> list[int]:
        """End the sessions selected by this value, but the caller's own. Return their ids. The right was checked before."""
        if by == "session":
            target = self._roster.get(value)
            targets: Iterable[Peer] = [] if target is None else [target]
        elif by == "authid":
            targets = [one for one in self._roster if one.principal.subject == value]
        elif by == "authrole":
            targets = [one for one in self._roster if one.principal.role == value]
        else:
            targets = self._roster
        close = DISCONNECTED._replace(uri=reason, message=message)
        ended = []
        for target in targets:
            if target.number != caller:
                _guarded(target.close, close)
                ended.append(target.number)
        return ended

    def _subscriptions_here(self) -> dict[str, list[int]]:
        return _listed(self._hub.buckets())

    def _subscription(self, number: int) -> SubscriptionFacts | None:
        bucket = self._hub.numbered(number)
        return None if bucket is None else SubscriptionFacts.of(bucket)

    def _subscribers_here(self, number: int) -> list[int]:
        bucket = self._hub.numbered(number)
        return [] if bucket is None else [peer.number for peer in bucket.peers()]

    def _lookup(self, uri: str, match: str) -> int | None:
        bucket = self._hub.bucket(pattern_of(uri, match))
        return None if bucket is None else bucket.number

    def _matching(self, topic: str) -> list[int]:
        return [bucket.number for bucket in self._hub.matching(topic)] if is_name(topic) else []

    def _remove(self, number: int, session: int, reason: str) -> bool | None:
        """Remove a subscriber. Return whether it was one; None if there is no such subscription."""
        bucket = self._hub.numbered(number)
        if bucket is None:
            return None
        for subscriber in bucket.peers():
            if subscriber.number == session:
                self._subscriptions.unsubscribe(subscriber, [bucket.pattern.text], _nothing)
                subscriber.unsubscribed(bucket, reason)
                return True
        return False

    # --- registrations

    def _registration(self, payload: Payload) -> SharedRegistration:
        registration = self._registry.numbered(Arguments(payload).number(0, "registration"))
        if registration is None:
            raise NO_SUCH_REGISTRATION.error("No such registration")
        return registration

    def _registration_list(self, _peer: Peer, _payload: Payload, reply: CallReply) -> None:
        answer(reply, _listed(self._registry))

    def _list_callees(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, _callees(self._registration(payload)))

    def _count_callees(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        answer(reply, len(_callees(self._registration(payload))))

    def _registration_get(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._registration(payload)
        answer(reply, registration_details(registration))

    def _registration_lookup(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._registry.registration(_pattern(Arguments(payload), "procedure"))
        answer(reply, None if registration is None else registration.number)

    def _registration_match(self, _peer: Peer, payload: Payload, reply: CallReply) -> None:
        registration = self._registry.find(Arguments(payload).take(0, "procedure", str))
        answer(reply, None if registration is None else registration.number)

    def _remove_callee(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        _administrator(peer)
        arguments = Arguments(payload)
        number, session = self._registration(payload).number, arguments.number(1, "callee")

        def then(answers: list[bool]) -> None:
            if not any(answers):
                raise NO_SUCH_SESSION.error("No such session")
            answer(reply)

        reason = arguments.take(2, "reason", str, "")
        self._everywhere.ask(reply, "unregister", number, session, reason, then=then, enough=any)

    def _unregister(self, number: int, session: int, reason: str) -> bool:
        """Remove a callee. Return whether it was one of this node."""
        registration, callee = self._registry.numbered(number), self._registry.session(session)
        if registration is None or callee is None or all(one.session != session for one in registration.callees):
            return False
        self._registrar.unregister(callee, [registration.pattern.text])
        callee.unregistered(registration, reason)
        return True


def _pattern(arguments: Arguments, name: str) -> Pattern:
    uri = arguments.take(0, name, str)
    options = arguments.take(1, "options", dict, None) or {}
    match = options.get("match", "exact")
    if match not in MATCHES:
        raise invalid("match", "must be exact, prefix or wildcard")
    if not is_pattern(uri, match, strict=False):
        raise invalid(name, "is no URI")
    return pattern_of(uri, match)


def _listed(found: Iterable[Bucket | SharedRegistration]) -> dict[str, list[int]]:
    """Return the ids by match policy."""
    listed: dict[str, list[int]] = {match: [] for match in MATCHES}
    for one in found:
        listed[one.pattern.match].append(one.number)
    return listed


def _words(arguments: Arguments) -> tuple[str, str]:
    """Return the reason and the message for sessions that are ended."""
    return arguments.uri("reason", NORMAL), arguments.take(None, "message", str, None) or ""


def _first(found: list[Any], missing: Narrower, what: str) -> Any:
    """Return the first answer that is one. Raise this error if there is none."""
    for one in found:
        if one is not None:
            return one
    raise missing.error(f"No such {what}")


def _union(lists: Iterable[list[int]]) -> list[int]:
    return list(dict.fromkeys(chain(*lists)))


def _callees(registration: SharedRegistration) -> list[int]:
    return list(dict.fromkeys(callee.session for callee in registration.callees))


def _administrator(peer: Peer) -> None:
    if not peer.principal.admin:
        raise NexusError("forbidden", "Only administrators may do this")


def _nothing() -> None:
    pass
