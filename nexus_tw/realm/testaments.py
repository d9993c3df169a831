"""Testaments: events that are published when the session that left them ends (WAMP: session testaments)."""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

import msgspec

from nexus_tw.commands.arguments import Arguments, answer
from nexus_tw.commands.procedures import Procedure
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.realm import Authorize, AuthorizeRequest, CallReply
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.events import EventMetadata, Publisher, Rule, new_publication_id
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.payloads import Payload
from nexus_tw.model.policy import Principal
from nexus_tw.model.serializers import JSON
from nexus_tw.model.settings import Limits
from nexus_tw.presence.sessions import Roster
from nexus_tw.protocols.wamp.heads import read
from nexus_tw.protocols.wamp.messages import PublishOptions
from nexus_tw.pubsub.publishing import Publications, check_free

MOST_TESTAMENTS: Final = 64  # of one session, in all scopes
TESTAMENT_BYTES: Final = 67108864  # of all sessions of a realm on this node
SCOPES: Final = ("detached", "destroyed")  # in the order of publication: no session is resumed

_SESSIONS: Final = frozenset(("exclude", "eligible"))  # members of `Rule` that list sessions; the others list text

_Testament = tuple[str, Payload, EventMetadata, int]  # topic, payload, metadata, and the bytes it is charged for


class Testaments:
    """The testaments of one realm on this node; `procedures` is by name."""

    def __init__(
        self,
        publications: Publications,
        roster: Roster,
        authorize: Authorize,
        metrics: Metrics,
        limits: Limits,
        disclose: bool,
    ) -> None:
        """With `disclose` subscribers always learn the session of a testament."""
        self._publications = publications
        self._roster = roster
        self._authorize = authorize
        self._metrics = metrics
        self._depth = limits.depth
        self._disclose = disclose
        self._kept = Budget("testaments", TESTAMENT_BYTES, limits, metrics)
        self._testaments: dict[Peer, dict[str, list[_Testament]]] = {}  # by scope, in the order of `SCOPES`
        self.procedures: dict[str, Procedure] = {
            "wamp.session.add_testament": self._add,
            "wamp.session.flush_testaments": self._flush,
        }

    def gone(self, peer: Peer) -> None:
        """Publish the testaments of a session that has ended."""
        for topic, payload, metadata, size in chain.from_iterable(self._testaments.pop(peer, {}).values()):
            self._kept.give_back(peer.principal.account, size)
            self._publish(peer, topic, payload, metadata)

    def _publish(self, peer: Peer, topic: str, payload: Payload, metadata: EventMetadata) -> None:
        """Publish if it is allowed now: the session may have lost the right since."""

        def allowed(rights: Principal) -> None:
            self._publications.publish(rights, topic, payload, lambda _position: None, lost, metadata)

        def lost(error: NexusError) -> None:
            self._metrics.events_dropped["testament"] += 1
            if error.code == "bus_unavailable":  # and its publisher is gone
                self._publications.missed(topic)

        self._authorize(peer, AuthorizeRequest("publish", topic), allowed, lost)

    def _add(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        arguments = Arguments(payload)
        topic = arguments.take(0, "topic", str)
        args = arguments.take(1, "args", list, None)
        kwargs = arguments.take(2, "kwargs", dict, None)
        options = _publish_options(arguments.take(None, "publish_options", dict, None) or {})
        scope = _scope(arguments)
        check_free(topic, "topic")
        self._check_room(peer)
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
                self._check_room(peer)
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

        self._authorize(peer, AuthorizeRequest("publish", topic, payload=left), allowed, reply.error)

    def _check_room(self, peer: Peer) -> None:
        if sum(map(len, self._testaments.get(peer, {}).values())) >= MOST_TESTAMENTS:
            raise NexusError("limit_exceeded", f"More than {MOST_TESTAMENTS} testaments")

    def _flush(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        scope = _scope(Arguments(payload))
        flushed = self._testaments.get(peer, {}).get(scope, [])
        answer(reply, len(flushed))
        self._kept.give_back(peer.principal.account, sum(size for _, _, _, size in flushed))
        flushed.clear()


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
        raise invalid("publish_options.enc_algo", "must not be given: a testament has args and kwargs")
    return options


def _rule(options: PublishOptions) -> Rule | None:
    given = {name: getattr(options, name) for name in Rule.__struct_fields__}
    listed: dict[str, Any] = {
        name: names if name in _SESSIONS else frozenset(names) for name, names in given.items() if names is not None
    }
    return Rule(**listed) if listed else None
