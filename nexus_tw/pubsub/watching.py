"""Watching: meta events of the whole realm for the nodes that have subscribers to them.

A node whose clients subscribe to meta topics says so to the others, each of which then tells it what happens. To a node that
wants to hear of beginnings or ends it first lists what is there: a mirror (`nexus_tw.pubsub.mirrors`), by which that node knows
the first and the last subscribers in the realm, and what ends with a node.

Mail between nodes arrives once and in order. A watching node that does not take it in time is told less: once there is room it
gets the lists anew, and tells its clients of the beginnings and ends that it has missed, but not of each subscriber.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from nexus_tw.interfaces.fleet import Fleet
from nexus_tw.model.events import Event
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.presence.sessions import Roster
from nexus_tw.pubsub.facts import (
    ON_CREATE,
    ON_DELETE,
    ON_JOIN,
    ON_LEAVE,
    ON_SUBSCRIBE,
    ON_UNSUBSCRIBE,
    Facts,
    SessionFacts,
    SubscriptionFacts,
)
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.mirrors import KINDS, Kind, Mirrors

PART: Final = "meta"
TOPICS: Final = (ON_JOIN, ON_LEAVE, ON_CREATE, ON_SUBSCRIBE, ON_UNSUBSCRIBE, ON_DELETE)
SETTLING: Final = 5.0  # s after its start in which this node finds the others, whose sessions are no news then
RETURN: Final = 10.0  # s for other nodes to be there again after they had given this one up
ROWS: Final = 512  # in one letter
LISTED: Final = 4194304  # bytes of the list of one kind; what is beyond them is not mirrored
NOBODY: Final = 0  # in the place of the session that caused something, if none did

_NEEDED: Final[dict[Kind, frozenset[str]]] = {
    "sessions": frozenset((ON_JOIN, ON_LEAVE)),
    "subscriptions": frozenset((ON_CREATE, ON_DELETE)),
}
_FACTS: Final[dict[Kind, Any]] = {"sessions": SessionFacts, "subscriptions": SubscriptionFacts}


class Watch(msgspec.Struct, tag="watch", array_like=True, gc=False):
    """The sender's clients subscribe to these meta topics, and to no others."""

    topics: list[str]


class Listed(msgspec.Struct, tag="listed", array_like=True, gc=False):
    """A part of the list of what the sender has of this kind."""

    kind: Kind
    rows: list[Any]
    last: bool


class Begun(msgspec.Struct, tag="begun", array_like=True, gc=False):
    """A session has joined on the sender, or a subscription has its first subscriber there, which is `session`."""

    kind: Kind
    facts: Any
    session: int


class Ended(msgspec.Struct, tag="ended", array_like=True, gc=False):
    """A session has left on the sender, or a subscription has lost its last subscriber there, which was `session`."""

    kind: Kind
    facts: Any
    session: int


class Changed(msgspec.Struct, tag="changed", array_like=True, gc=False):
    """A session has subscribed or unsubscribed."""

    topic: str
    session: int
    subscription: int


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Watch | Listed | Begun | Ended | Changed).decode
_json: Final = msgspec.json.Encoder().encode


class _Watcher:
    """Another node that watches."""

    __slots__ = ("behind", "topics")

    def __init__(self) -> None:
        self.topics: frozenset[str] = frozenset()
        self.behind = False  # whether there was no room to tell it something

    def mirrors(self, kind: Kind) -> bool:
        return not self.topics.isdisjoint(_NEEDED[kind])


class Watching:
    """Implements `nexus_tw.interfaces.fleet.Part`."""

    def __init__(self, fleet: Fleet, hub: Hub, roster: Roster, clock: IReactorTime, metrics: Metrics) -> None:
        self.others: dict[str, _Watcher] = {}  # nodes that watch; if there are none, nothing needs to be told
        self._mirrors = Mirrors()
        self._fleet = fleet
        self._hub = hub
        self._roster = roster
        self._clock = clock
        self._metrics = metrics
        self._topics: Counter[str] = Counter()  # how many of this node's patterns select each
        self._leaving: dict[str, IDelayedCall] = {}  # nodes that are gone, unless they come back in time
        self._started = clock.seconds()
        self._counted = 0  # as this part counted it in the metrics
        fleet.take_part(PART, self, self.asked)

    def stop(self) -> None:
        """Tell nothing more."""
        for call in self._leaving.values():
            call.cancel()
        self._leaving.clear()

    # --- for this node's clients

    def elsewhere(self, number: int) -> bool:
        """Return whether the subscription of this id has subscribers on other nodes; known only to a node that watches."""
        return self._mirrors.elsewhere(number)

    def watch(self, pattern: Pattern, done: Callable[[], None]) -> None:
        """A pattern has its first subscriber here. Call `done` once the other nodes tell what happens there, or have not
        answered in time."""
        before = self._wanted()
        self._topics.update(_selected(pattern))
        wanted = self._wanted()
        members = list(self._fleet.members)
        if wanted == before or not members:
            done()
            return
        for kind in KINDS:
            if _needs(wanted, kind) and not _needs(before, kind):
                for node in members:
                    self._mirrors.begin(node, kind)
        self._fleet.ask(members, PART, _encode(Watch(sorted(wanted))), lambda _answers: done())

    def unwatch(self, pattern: Pattern) -> None:
        """A pattern has lost its last subscriber here."""
        before = self._wanted()
        self._topics.subtract(_selected(pattern))
        self._topics = +self._topics
        wanted = self._wanted()
        if wanted == before:
            return
        for kind in KINDS:
            if not _needs(wanted, kind):
                self._mirrors.end(kind)
        self._count()
        self._fleet.tell(None, PART, _encode(Watch(sorted(wanted))))

    # --- what happens here, for other nodes; called only if `others` has any

    def session_joined(self, session: SessionFacts) -> None:
        self._tell_watchers("sessions", Begun("sessions", session, session.number))

    def session_left(self, session: SessionFacts) -> None:
        self._tell_watchers("sessions", Ended("sessions", session, session.number))

    def created(self, session: int, subscription: SubscriptionFacts) -> None:
        self._tell_watchers("subscriptions", Begun("subscriptions", subscription, session))

    def deleted(self, session: int, subscription: SubscriptionFacts) -> None:
        self._tell_watchers("subscriptions", Ended("subscriptions", subscription, session))

    def changed(self, topic: str, session: int, subscription: int) -> None:
        body = b""
        for node, watcher in self.others.items():
            if topic in watcher.topics:
                body = body or _encode(Changed(topic, session, subscription))
                self._send(node, watcher, body)

    # --- Part

    def received(self, node: str, body: bytes) -> None:
        letter = _decode(body)
        if isinstance(letter, Watch):
            self._watched(node, letter.topics)
        elif isinstance(letter, Changed):
            self._publish(letter.topic, letter.session, letter.subscription)
        elif isinstance(letter, Listed):
            facts = [_facts(letter.kind, row) for row in letter.rows]
            begun, ended = self._mirrors.listed(node, letter.kind, facts, letter.last)
            for each in ended:
                self._ends(each, NOBODY)
            for each in begun:
                if self._mirrors.holders(each.number) < 2:
                    self._begins(each, NOBODY)
        elif isinstance(letter, Begun):
            found = _facts(letter.kind, letter.facts)
            elsewhere = self._mirrors.elsewhere(found.number)
            self._mirrors.add(node, letter.kind, found)
            if not elsewhere:
                self._begins(found, letter.session)
        else:
            found = _facts(letter.kind, letter.facts)
            self._mirrors.drop(node, letter.kind, found.number)
            self._ends(found, letter.session)
        self._count()

    def asked(self, node: str, body: bytes, answer: Callable[[bytes], None]) -> None:
        self.received(node, body)
        answer(b"")

    def joined(self, node: str) -> None:
        leaving = self._leaving.pop(node, None)
        if leaving is not None:
            leaving.cancel()
        wanted = self._wanted()
        settling = self._clock.seconds() - self._started < SETTLING
        for kind in KINDS:
            if _needs(wanted, kind):
                (self._mirrors.begin if settling else self._mirrors.news)(node, kind)
        if wanted:
            self._fleet.tell(node, PART, _encode(Watch(sorted(wanted))))

    def left(self, node: str, heir: bool) -> None:
        self.others.pop(node, None)
        if node not in self._leaving and self._mirrors.has(node):
            self._leaving[node] = self._clock.callLater(0, self._gone, node)

    def fenced(self) -> None:
        """Do nothing: no other node tells this one's clients."""

    def renewed(self) -> None:
        """If this node was given up, it has just lost sight of the others: most of them will be there again."""
        for call in self._leaving.values():
            call.reset(RETURN)

    # --- what other nodes want

    def _watched(self, node: str, topics: Iterable[str]) -> None:
        if node not in self._fleet.members:
            return
        watcher = self.others.setdefault(node, _Watcher())
        before, watcher.topics = watcher.topics, frozenset(topics)
        for kind in KINDS:
            if watcher.mirrors(kind) and not _needs(before, kind):
                self._list(node, kind)
        if not watcher.topics:
            del self.others[node]

    def _list(self, node: str, kind: Kind) -> None:
        rows = self._here(kind)
        size = 0
        part = list(islice(rows, ROWS))
        while True:
            following = list(islice(rows, ROWS))
            size += sum(len(text) for row in part for text in row if isinstance(text, str)) + 32 * len(part)
            last = not following or size > LISTED
            self._fleet.tell(node, PART, _encode(Listed(kind, part, last)))
            if last:
                return
            part = following

    def _here(self, kind: Kind) -> Iterator[Facts]:
        if kind == "sessions":
            return map(SessionFacts.of, self._roster)
        return (SubscriptionFacts.of(bucket) for bucket in self._hub.buckets() if not is_meta(bucket.pattern))

    def _tell_watchers(self, kind: Kind, letter: Begun | Ended) -> None:
        body = b""
        for node, watcher in self.others.items():
            if watcher.mirrors(kind):
                body = body or _encode(letter)
                self._send(node, watcher, body)

    def _send(self, node: str, watcher: _Watcher, body: bytes) -> None:
        if not self._fleet.room(node, len(body)):
            watcher.behind = True
        elif watcher.behind:
            watcher.behind = False
            for kind in KINDS:  # what was to be told now has its effect in these
                if watcher.mirrors(kind):
                    self._list(node, kind)
        else:
            self._fleet.tell(node, PART, body)

    # --- what other nodes have told

    def _wanted(self) -> frozenset[str]:
        return frozenset(self._topics)

    def _begins(self, facts: Facts, session: int) -> None:
        if isinstance(facts, SessionFacts):
            self._publish(ON_JOIN, facts.details)
        elif self._hub.numbered(facts.number) is None:
            self._publish(ON_CREATE, session, facts.details)

    def _ends(self, facts: Facts, session: int) -> None:
        if isinstance(facts, SessionFacts):
            self._publish(ON_LEAVE, facts.number, facts.authid, facts.authrole)
        elif self._hub.numbered(facts.number) is None and not self._mirrors.elsewhere(facts.number):
            self._publish(ON_DELETE, session, facts.number)

    def _gone(self, node: str) -> None:
        """A node is gone, and with it what it had."""
        del self._leaving[node]
        for facts in self._mirrors.forget(node):
            self._ends(facts, NOBODY)
        self._count()

    def _publish(self, topic: str, *args: Any) -> None:
        if self._hub.wanted(topic):
            tell(self._hub, topic, *args)

    def _count(self) -> None:
        mirrored = len(self._mirrors)
        self._metrics.meta_mirrored += mirrored - self._counted
        self._counted = mirrored


def tell(hub: Hub, topic: str, *args: Any) -> None:
    """Give a meta event to its subscribers on this node."""
    data = _json({"args": args, "kwargs": {}})
    hub.event(Event(topic, Payload.of_value(data, "pair")))


def is_meta(pattern: Pattern) -> bool:
    """Return whether a subscription to this pattern is one to meta events only."""
    return pattern.text.startswith("wamp.")


def selects_meta(pattern: Pattern) -> bool:
    """Return whether the pattern selects a meta event about sessions or subscriptions."""
    return pattern.text.startswith("wamp") and bool(_selected(pattern))


def _selected(pattern: Pattern) -> list[str]:
    return [topic for topic in TOPICS if pattern.matches(topic) and pattern.selects(topic)]


def _needs(topics: frozenset[str], kind: Kind) -> bool:
    return not topics.isdisjoint(_NEEDED[kind])


def _facts(kind: Kind, row: Any) -> Facts:
    facts: Facts = msgspec.convert(row, _FACTS[kind])
    return facts
