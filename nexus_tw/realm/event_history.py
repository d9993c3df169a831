"""WAMP's event history: the procedure `wamp.subscription.get_events`.

It is for sessions that hold the subscription or may subscribe to its pattern, and for past events that the session may receive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IReactorTime

from nexus_tw.commands.arguments import Arguments, answer
from nexus_tw.commands.procedures import Procedure
from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.interfaces.realm import CallReply, PastEvent
from nexus_tw.model.errors import NexusError, invalid
from nexus_tw.model.names import Pattern
from nexus_tw.model.payloads import Payload
from nexus_tw.model.positions import Position
from nexus_tw.model.serializers import JSON
from nexus_tw.model.times import format_millis, parse_millis
from nexus_tw.pubsub.pages import BYTES, too_large
from nexus_tw.pubsub.subscribing import Subscriptions
from nexus_tw.pubsub.walks import Walk, unavailable

GET_EVENTS: Final = "wamp.subscription.get_events"
LIMIT: Final = 100  # events of an answer, by default
MAX_LIMIT: Final = 1000
TOPICS: Final = 64  # topics of a pattern whose past is read in one call

_millis: Final = attrgetter("millis")

Find = Callable[[int, CallReply, Callable[[Pattern], None]], None]
"""Finds the pattern of a subscription by its id, and calls back with it, or replies that there is none."""


class EventHistory:
    """Answers from the history of the bus."""

    def __init__(self, bus: IBus, clock: IReactorTime, find: Find, subscriptions: Subscriptions) -> None:
        self._bus = bus
        self._clock = clock
        self._find = find
        self._subscriptions = subscriptions
        self.procedures: dict[str, Procedure] = {GET_EVENTS: self._get_events}

    def _get_events(self, peer: Peer, payload: Payload, reply: CallReply) -> None:
        arguments = Arguments(payload)
        number = arguments.number(0, "subscription")
        self._find(number, reply, lambda pattern: self._search(peer, arguments, number, pattern, reply))

    def _search(self, peer: Peer, arguments: Arguments, number: int, pattern: Pattern, reply: CallReply) -> None:
        if self._subscriptions.held(peer, number) is None:
            peer.principal.require_cover("subscribe", pattern)
        wanted = Wanted(arguments)
        topic = arguments.take(None, "topic", str, None)
        if topic is not None and not (pattern.matches(topic) and pattern.selects(topic)):
            raise invalid("topic", "is not a topic of this subscription")
        search = _Search(self._bus, self._clock, peer, (number, pattern.exact), wanted, reply)
        if topic is not None or pattern.exact:
            search.begin([pattern.text if topic is None else topic])
            return
        if wanted.by_publication:
            raise invalid("topic", "is needed beside a publication, since this subscription has several topics")
        history = self._bus.history
        if history is None:
            raise unavailable(pattern.text)

        def known(found: dict[str, Position] | NexusError) -> None:
            if isinstance(found, NexusError):
                reply.error(found)
            elif len(found) > TOPICS:
                reply.error(NexusError("limit_exceeded", f"topic: is needed, since more than {TOPICS} topics have a history"))
            else:
                search.begin(list(found))

        history.known(pattern, known)


class Wanted:
    """Which events a call asks for."""

    def __init__(self, arguments: Arguments) -> None:
        """Raise `invalid_message` that names the argument."""
        limit = arguments.take(1, "limit", int, LIMIT)
        if not 1 <= limit <= MAX_LIMIT:
            raise invalid("limit", f"must be an integer from 1 to {MAX_LIMIT}")
        self.limit: int = limit
        self.reverse: bool = arguments.take(None, "reverse", bool, False)
        self._from = _time(arguments, "from_time")
        self._after = _time(arguments, "after_time")
        self._before = _time(arguments, "before_time")
        self._until = _time(arguments, "until_time")
        self._marks = {
            name: arguments.number(None, name)
            for name in ("from_publication", "after_publication", "before_publication", "until_publication")
            if arguments.take(None, name, object, None) is not None
        }

    @property
    def by_publication(self) -> bool:
        """Whether it begins or ends at a publication."""
        return bool(self._marks)

    def within(self, millis: int) -> bool:
        """Return whether this time (ms since the epoch) is within the asked span."""
        return (
            (self._from is None or millis >= self._from)
            and (self._after is None or millis > self._after)
            and (self._before is None or millis < self._before)
            and (self._until is None or millis <= self._until)
        )

    def span(self) -> Span:
        """Return a new span between the publications."""
        return Span(self._marks)


class Span:
    """Finds out, event by event of one topic, which are between the publications that a call names."""

    def __init__(self, marks: dict[str, int]) -> None:
        self._unseen = dict(marks)
        self._begun = not ("from_publication" in marks or "after_publication" in marks)
        self.over = False

    def includes(self, publication: int) -> bool:
        """Return whether the next event is between them. Nothing is once `over` is True."""
        seen = {name for name, mark in self._unseen.items() if mark == publication}
        for name in seen:
            del self._unseen[name]
        if self.over or "before_publication" in seen:
            self.over = True
            return False
        self.over = "until_publication" in seen
        if not self._begun:
            starts = {"from_publication", "after_publication"}
            self._begun = not starts & self._unseen.keys()
            return self._begun and "after_publication" not in seen
        return True

    def require_seen(self) -> None:
        """Raise `invalid_message` if the topic's history has ended before all publications were seen."""
        for name in self._unseen:
            raise invalid(name, "is not in the history")


class _Search:
    """The search for one call, topic by topic."""

    def __init__(
        self,
        bus: IBus,
        clock: IReactorTime,
        peer: Peer,
        subscription: tuple[int, bool],
        wanted: Wanted,
        reply: CallReply,
    ) -> None:
        """`subscription`: its id, and whether it has one topic only."""
        self._bus = bus
        self._clock = clock
        self._peer = peer
        self._subscription = subscription
        self._wanted = wanted
        self._reply = reply
        self._topics: list[str] = []
        self._found: list[PastEvent] = []

    def begin(self, topics: list[str]) -> None:
        self._topics = topics
        self._next()

    def _next(self) -> None:
        if not self._topics:
            self._answer()
            return
        topic = self._topics.pop()
        kept = _Kept(self._wanted)

        def ended(_position: Position, _recovered: bool) -> None:
            try:
                kept.finish()
                self._merge(kept.events)
            except NexusError as error:
                self._reply.error(error)
            else:
                self._clock.callLater(0, self._next)

        Walk(self._bus, self._clock, self._peer, topic, kept.take, ended, self._reply.error).begin(None)

    def _merge(self, events: Sequence[PastEvent]) -> None:
        """Keep the oldest, or with `reverse` the newest, of these and those found in other topics."""
        merged = sorted((*self._found, *events), key=_millis)
        limit = self._wanted.limit
        self._found = merged[-limit:] if self._wanted.reverse else merged[:limit]
        if len(self._found) > 1 and sum(past.event.payload.size for past in self._found) > BYTES:
            raise too_large()

    def _answer(self) -> None:
        found = reversed(self._found) if self._wanted.reverse else self._found
        answer(self._reply, [_told(past, *self._subscription) for past in found])


class _Kept:
    """The events of one topic that a call asks for: the first ones, or with `reverse` the last ones."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._span = wanted.span()
        self.events: deque[PastEvent] = deque()
        self._size = 0
        self._cut = False  # whether an event was dropped that may be asked for, since there was no room
        self._stopped = False

    def take(self, past: PastEvent) -> bool:
        included = self._span.includes(past.event.publication) and self._wanted.within(past.millis)
        if included:
            self.events.append(past)
            self._size += past.event.payload.size
            if len(self.events) > self._wanted.limit:
                self._drop()
            while self._size > BYTES and len(self.events) > 1:
                self._cut = True
                self._drop()
            if len(self.events) == self._wanted.limit:
                self._cut = False
        full = not self._wanted.reverse and (self._cut or len(self.events) == self._wanted.limit)
        self._stopped = full or self._span.over
        return self._stopped

    def finish(self) -> None:
        """Raise `NexusError` if this is not what the call asks for."""
        if not self._stopped:
            self._span.require_seen()
        if self._cut:
            raise too_large()

    def _drop(self) -> None:
        self._size -= self.events.popleft().event.payload.size


def _time(arguments: Arguments, name: str) -> int | None:
    text = arguments.take(None, name, str, None)
    return None if text is None else parse_millis(text, name)


def _told(past: PastEvent, subscription: int, exact: bool) -> dict[str, Any]:
    """Return an event as an answer gives it."""
    event = past.event
    args, kwargs = event.payload.arguments(JSON)
    details: dict[str, Any] = {} if exact else {"topic": event.type}
    if event.metadata is not None and event.metadata.publisher is not None:
        details["publisher"], details["publisher_authid"], details["publisher_authrole"] = event.metadata.publisher
    return {
        "timestamp": format_millis(past.millis),
        "subscription": subscription,
        "publication": event.publication,
        "topic": event.type,
        "details": details,
        "args": [] if args is None else msgspec.Raw(args),
        "kwargs": {} if kwargs is None else msgspec.Raw(kwargs),
    }
