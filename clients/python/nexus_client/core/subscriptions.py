"""The streams of a client: put on the wire, recovered after a reconnect, fed with events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nexus_client.core.effects import Deliver, End, Report, Subscribed
from nexus_client.core.link import Link
from nexus_client.core.matching import parse_pattern
from nexus_client.core.messages import Message, encode, numbered, parse_position
from nexus_client.core.routes import Pair, Route, Routes
from nexus_client.core.stats import Stats
from nexus_client.core.stream import TYPES, Mark, Stream
from nexus_client.errors import NexusError, Overloaded, RequestError
from nexus_client.events import Event


class Asking:
    """Streams that go to the server in one `subscribe`, with one filter for all (`where` and its `key`) or none."""

    __slots__ = ("due", "failures", "key", "returning", "sent", "streams", "where")

    def __init__(self, streams: list[Stream], where: Mapping[str, Any] | None, key: str | None) -> None:
        self.streams = streams
        self.where = where
        self.key = key
        self.returning = any(stream.returning for stream in streams)
        self.sent: dict[str, str] = {}
        self.failures = 0
        self.due: float | None = None

    @property
    def patterns(self) -> list[str]:
        return list(dict.fromkeys(pattern.text for stream in self.streams for pattern in stream.patterns))

    @property
    def pairs(self) -> list[Pair]:
        return [(pattern, self.key) for pattern in self.patterns]


class Subscriptions:
    """All streams that are open."""

    def __init__(self, link: Link, stats: Stats) -> None:
        self._link = link
        self._stats = stats
        self._streams: dict[int, Stream] = {}
        self._number = 0
        self._routes = Routes()
        self._waiting: list[Asking] = []  # refused for a while, to be asked again

    # The application's side.

    def open(
        self, now: float, patterns: Sequence[str], where: Mapping[str, Any] | None, since: Mapping[str, str] | None
    ) -> int:
        stream = Stream(self._number + 1, patterns, where, since)
        self._number = stream.number
        self._streams[stream.number] = stream
        self._routes.changed()
        if self._link.up:
            self._ask(now, Asking([stream], stream.where, stream.key))
        return stream.number

    def close(self, number: int, error: NexusError | None) -> None:
        """End a stream; on the wire end the patterns that no other stream has."""
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        wanted = {pattern.text for other in self._streams.values() for pattern in other.patterns}
        self._routes.changed()
        pairs = self._routes.of(pattern.text for pattern in stream.patterns if pattern.text not in wanted)
        if self._link.up and pairs:
            self._unask(pairs)
        self._link.emit(End(number, error, stream.positions))

    def close_all(self, error: NexusError | None) -> None:
        for number, stream in self._streams.items():
            self._link.emit(End(number, error, stream.positions))
        self._streams.clear()
        self._routes.clear()

    def positions(self, number: int) -> dict[str, str]:
        stream = self._streams.get(number)
        return stream.positions if stream else {}

    # The connection's side.

    def connected(self, now: float) -> None:
        """Ask for all streams.

        Streams that overlap go together: the server replays a type once for a connection, and exactly only if each part of
        it is asked for with the same filter.
        """
        askings: dict[tuple[str | None, bool], Asking] = {}
        for group in _groups(list(self._streams.values())):
            first = group[0]
            common = all(stream.key == first.key for stream in group)
            asking = Asking(group, first.where if common else None, first.key if common else None)
            known = askings.setdefault((asking.key, asking.returning), asking)
            if known is not asking:
                known.streams += group
        for asking in askings.values():
            self._ask(now, asking)

    def lost(self) -> None:
        self._waiting.clear()
        self._routes.clear()
        for stream in self._streams.values():
            stream.lost()

    def deadline(self) -> float | None:
        return min((asking.due for asking in self._waiting if asking.due is not None), default=None)

    def tick(self, now: float) -> None:
        if self._link.up:
            due = [asking for asking in self._waiting if asking.due is not None and asking.due <= now]
            for asking in due:
                self._waiting.remove(asking)
                self._ask(now, asking)

    def event(self, message: Message) -> None:
        name = message.eventType
        route = self._routes.find(name, self._streams.values())
        self._stats.events += 1
        position = message.position
        event = Event(name, message.data, position)
        if position is None:
            self._without_position(event, route)
            return
        epoch, offset = parse_position(position)
        complete = route.complete
        for stream, test in route.targets:
            mark = stream.marks.get(name)
            # A stream that returns and was not accepted yet sees what others asked for: nothing may be missing there.
            owed = stream.returning and not stream.live
            if mark is None:
                if owed and offset != 1:
                    self._gap(stream, name, "skipped", _before(epoch, offset))
                self._mark(stream, name, epoch, offset)
            elif mark.epoch == epoch:
                if offset <= mark.offset:
                    self._stats.duplicates += 1
                    continue
                if offset != mark.offset + 1 and (complete or owed):
                    self._gap(stream, name, "skipped", _before(epoch, offset))
                mark.offset = offset
            else:
                # A type has its epoch from its first event on; the position before that names another one.
                if mark.offset or (offset != 1 and (complete or owed)):
                    self._gap(stream, name, "skipped", _before(epoch, offset))
                mark.epoch = epoch
                mark.offset = offset
            if test is None or test.matches(event.data):
                self._link.effects.append(Deliver(stream.number, event))

    def continuity(self, message: Message) -> None:
        name, position = message.eventType, message.position
        concerned = [stream for stream in self._streams.values() if stream.live or not stream.returning]
        for stream in concerned:
            if not (stream.selects(name) or ("*" in name and any(p.overlaps(parse_pattern(name)) for p in stream.patterns))):
                continue
            if message.recovered is not True:
                self._gap(stream, name, "server", position)
            if position is not None:
                epoch, offset = parse_position(position)
                mark = stream.marks.get(name)
                if mark is None or not mark.reaches(epoch, offset):
                    self._mark(stream, name, epoch, offset)

    def ended(self, message: Message) -> None:
        """An administrator has ended subscriptions."""
        self._routes.remove(self._routes.of(message.events))
        for stream in list(self._streams.values()):
            if any(pattern.text in message.events for pattern in stream.patterns):
                self.close(stream.number, RequestError("unsubscribed", "an administrator ended the subscription"))

    # The requests.

    def _ask(self, now: float, asking: Asking) -> None:
        asking.streams = [stream for stream in asking.streams if stream.number in self._streams]
        if not asking.streams:
            return
        message: dict[str, Any] = {"type": "subscribe", "events": asking.patterns}
        if asking.where is not None:
            message["filters"] = asking.where
        if asking.returning:
            message["since"] = asking.sent = _since(asking.streams)
        text = encode(message)
        while asking.sent and self._link.excess(text):
            # What is left out is recovered from its beginning, where that is still there, and the marks drop what is known.
            for name in list(asking.sent)[len(asking.sent) // 2 :]:
                del asking.sent[name]
            text = encode(message)
        if excess := self._link.excess(text):
            too_large = f"subscribe has {excess} bytes, more than {self._link.limit}"
            self._refuse(now, asking, RequestError("too_large", too_large))
            return
        number, pairs = self._link.number(), asking.pairs
        self._routes.add(pairs)
        self._link.ask(number, numbered(text, number), lambda now, message: self._answered(now, number, asking, pairs, message))

    def _unask(self, pairs: list[Pair]) -> None:
        number = self._link.number()
        text = encode({"type": "unsubscribe", "events": list(dict.fromkeys(pattern for pattern, _ in pairs))})

        def answered(_now: float, _reply: Message) -> None:
            self._link.settled(number)
            self._routes.remove(pairs)  # until then events come that were sent before

        self._link.ask(number, numbered(text, number), answered)

    def _answered(self, now: float, number: int, asking: Asking, pairs: list[Pair], message: Message) -> None:
        self._link.settled(number)
        if message.type == "error":
            self._routes.remove(pairs)
            self._refuse(now, asking, RequestError(str(message.code), message.message, message.retryable))
            return
        recovered = message.recovered if isinstance(message.recovered, dict) else {}
        for stream in asking.streams:
            if stream.number not in self._streams:
                continue
            for gap in stream.accept(message.positions, recovered, asking.sent):
                self._stats.gaps += 1
                self._link.emit(Deliver(stream.number, gap))
            self._link.emit(Subscribed(stream.number))
            self._bound(stream)

    def _refuse(self, now: float, asking: Asking, error: RequestError) -> None:
        if error.retryable:
            asking.failures += 1
            asking.due = self._link.again(now, asking.failures)
            self._waiting.append(asking)
            self._link.emit(Report("subscription", f"refused for now: {error}"))
        elif len(asking.streams) > 1:
            # One of them is at fault: ask for each alone, with the filter of all, by which recovery remains exact.
            for stream in asking.streams:
                self._ask(now, Asking([stream], asking.where, asking.key))
        else:
            for stream in asking.streams:
                self.close(stream.number, error)

    # Items.

    def _without_position(self, event: Event, route: Route) -> None:
        for stream, test in route.targets:
            if stream.uncovered(event.type):
                self._gap(stream, event.type, "reconnect", None)
            if test is None or test.matches(event.data):
                self._link.emit(Deliver(stream.number, event))
            self._bound(stream)

    def _gap(self, stream: Stream, type: str, reason: str, position: str | None) -> None:
        self._stats.gaps += 1
        self._link.emit(Deliver(stream.number, stream.gap(type, reason, position)))

    def _mark(self, stream: Stream, type: str, epoch: str, offset: int) -> None:
        stream.marks[type] = Mark(epoch, offset)
        self._bound(stream)

    def _bound(self, stream: Stream) -> None:
        if len(stream.marks) > TYPES or len(stream.bare) > TYPES:
            self.close(stream.number, Overloaded(f"the stream has events of more than {TYPES} types"))


def _before(epoch: str, offset: int) -> str:
    return f"{epoch}:{offset - 1}"


def _since(streams: Iterable[Stream]) -> dict[str, str]:
    """Return, by type, the position after which some stream needs events: the oldest, if they are of one epoch."""
    marks: dict[str, Mark] = {}
    for stream in streams:
        for name, mark in stream.marks.items():
            known = marks.get(name)
            if known is None or (known.epoch == mark.epoch and known.offset > mark.offset):
                marks[name] = mark
    return {name: mark.position for name, mark in marks.items()}


def _groups(streams: list[Stream]) -> list[list[Stream]]:
    """Return the streams in groups, as small as possible, such that no two groups overlap; in the order of their first."""
    groups: list[list[Stream]] = []
    for stream in streams:
        touched = [group for group in groups if any(stream.overlaps(other) for other in group)]
        if touched:
            touched[0].append(stream)
            for group in touched[1:]:
                touched[0].extend(group)
                groups.remove(group)
        else:
            groups.append([stream])
    return groups
