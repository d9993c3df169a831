"""The hub: who on this node subscribes to what, and the fan-out of an event to them.

The cost of a fan-out is kept away from the number of subscribers:

* Subscribers of the same (pattern, filter) are one **group**; a filter is evaluated once for each group, and groups whose
  filter asks for equality are found by the event's value in a dictionary, not by asking each.
* Peers with the same encoding and the same groups are one **cohort**. What a cohort gets within a reactor turn is gathered
  once, joined once, and the same bytes go to each member in one write.

An event that matches several groups of a cohort is put into it once, which is also what keeps a client from getting it twice.
A peer that changes its subscriptions in mid-turn first gets what its old cohort has gathered, and nothing that the new one had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final

import msgspec

from nexus_tw.filters import MISSING, Filter, canonical, lookup
from nexus_tw.interfaces import Encoding, Peer
from nexus_tw.metrics import Metrics
from nexus_tw.topics import Pattern, PatternMap

_decode: Final = msgspec.json.Decoder().decode
_ROUTES_KEPT: Final = 16384  # event types for which the matching patterns are remembered


class Group:
    """All who subscribe to one pattern with one filter."""

    __slots__ = ("bucket", "cohorts", "filter", "indexed", "size")

    def __init__(self, bucket: Bucket, filter_: Filter | None) -> None:
        self.bucket = bucket
        self.filter = filter_
        self.cohorts: dict[Cohort, None] = {}  # ordered, so that fan-out is the same in every run
        self.size = 0
        self.indexed: tuple[str, Hashable] | None = None


class Bucket:
    """All groups of one pattern, arranged by what their filters ask for."""

    __slots__ = ("filtered", "groups", "index", "pattern", "plain", "scanned")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.groups: dict[Hashable, Group] = {}
        self.plain: Group | None = None
        self.filtered = False
        self.index: dict[str, dict[Hashable, list[Group]]] = {}
        self.scanned: list[Group] = []

    def group(self, filter_: Filter | None) -> Group:
        identity = filter_.identity if filter_ else None
        group = self.groups.get(identity)
        if group is None:
            group = self.groups[identity] = Group(self, filter_)
            self._arrange(group)
        return group

    def drop(self, group: Group) -> None:
        if group.filter is None:
            self.plain = None
            del self.groups[None]
            return
        del self.groups[group.filter.identity]
        if group.indexed is None:
            self.scanned.remove(group)
        else:
            name, value = group.indexed
            postings = self.index[name][value]
            postings.remove(group)
            if not postings:
                del self.index[name][value]
                if not self.index[name]:
                    del self.index[name]
        self.filtered = bool(self.index or self.scanned)

    def matching(self, data: Any) -> Iterator[Group]:
        """Groups whose filter the decoded data passes (the one without a filter is `plain`)."""
        for name, values in self.index.items():
            value = lookup(data, name)
            if value is not MISSING:
                for group in values.get(canonical(value), ()):
                    if group.filter.matches(data):  # type: ignore[union-attr]
                        yield group
        for group in self.scanned:
            if group.filter.matches(data):  # type: ignore[union-attr]
                yield group

    def _arrange(self, group: Group) -> None:
        if group.filter is None:
            self.plain = group
            return
        self.filtered = True
        if not group.filter.equal:
            self.scanned.append(group)
            return
        # Of several equalities take the one that shares its value with the fewest others, on a name already indexed if it
        # can be: one name more is one look-up more for each event.
        name, value = group.indexed = min(group.filter.equal, key=self._crowd)
        self.index.setdefault(name, {}).setdefault(value, []).append(group)

    def _crowd(self, condition: tuple[str, Hashable]) -> tuple[int, bool]:
        name, value = condition
        values = self.index.get(name)
        return (len(values.get(value, ())) if values else 0), values is None


class Cohort:
    """Peers that get the same bytes."""

    __slots__ = ("encoding", "groups", "key", "last", "members", "pending")

    def __init__(self, key: tuple[Hashable, frozenset[Group]], encoding: Encoding) -> None:
        self.key = key
        self.groups = key[1]
        self.encoding = encoding
        self.members: dict[Subscriber, None] = {}
        self.pending: list[bytes] = []
        self.last: object = None  # the last event put in


class Subscriber:
    """A peer's place in the hub: its (pattern, filter) pairs and the cohort these put it into."""

    __slots__ = ("cohort", "pairs", "peer")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.pairs: dict[str, dict[Hashable, Group]] = {}  # by the pattern as written
        self.cohort: Cohort | None = None

    def __len__(self) -> int:
        return sum(map(len, self.pairs.values()))


class Hub:
    """Subscriptions, groups, fan-out. `soon` calls back once at the end of the reactor turn."""

    def __init__(self, soon: Callable[[Callable[[], None]], None], metrics: Metrics) -> None:
        self._soon = soon
        self._metrics = metrics
        self._exact: dict[str, Bucket] = {}
        self._wild: dict[str, Bucket] = {}
        self._trie: PatternMap[Bucket] = PatternMap()
        self._routes: dict[str, tuple[Bucket, ...]] = {}
        self._cohorts: dict[tuple[Hashable, frozenset[Group]], Cohort] = {}
        self._dirty: deque[Cohort] = deque()

    def subscribe(self, subscriber: Subscriber, pairs: Iterable[tuple[Pattern, Filter | None]]) -> None:
        """Adds pairs; those the subscriber has already change nothing."""
        for pattern, filter_ in pairs:
            group = self._bucket(pattern).group(filter_)
            mine = subscriber.pairs.setdefault(pattern.text, {})
            identity = filter_.identity if filter_ else None
            if identity not in mine:
                mine[identity] = group
                group.size += 1
        self._place(subscriber)

    def unsubscribe(self, subscriber: Subscriber, patterns: Iterable[str]) -> None:
        """Drops all of the subscriber's pairs that were written with these very strings."""
        left = [group for text in patterns for group in subscriber.pairs.pop(text, {}).values()]
        if left:
            self._place(subscriber)
            self._leave(left)

    def remove(self, subscriber: Subscriber) -> None:
        """Drops everything of a subscriber that goes; it gets nothing any more, gathered events included."""
        left = [group for groups in subscriber.pairs.values() for group in groups.values()]
        subscriber.pairs.clear()
        self._quit(subscriber)
        self._leave(left)

    def patterns(self) -> list[Pattern]:
        """Every pattern that somebody here subscribes to."""
        return [bucket.pattern for bucket in (*self._exact.values(), *self._wild.values())]

    def interested(self, event_type: str) -> list[Pattern]:
        """The patterns, of those subscribed to, that an event of this type matches."""
        return [bucket.pattern for bucket in self._route(event_type)]

    def event(self, event_type: str, data: bytes) -> None:
        """Gathers the event for every cohort that shall get it. `data` is JSON that `msgspec` can decode."""
        buckets = self._route(event_type)
        if not buckets:
            return
        event = object()
        frames: dict[Hashable, bytes] = {}
        decoded: Any = MISSING
        for bucket in buckets:
            if bucket.plain is not None:
                self._gather(bucket.plain, event, frames, event_type, data)
            if bucket.filtered:
                if decoded is MISSING:
                    decoded = _decode(data)
                for group in bucket.matching(decoded):
                    self._gather(group, event, frames, event_type, data)

    def tell(self, patterns: Iterable[Pattern], write: Callable[[Encoding], bytes]) -> None:
        """Puts a frame of another kind than an event, once, among the events of everyone who subscribes to one of these
        very patterns."""
        notice = object()
        frames: dict[Hashable, bytes] = {}
        for pattern in patterns:
            bucket = (self._exact if pattern.exact else self._wild).get(pattern.text)
            for group in bucket.groups.values() if bucket is not None else ():
                for cohort in group.cohorts:
                    if cohort.last is not notice:
                        frame = frames.get(cohort.encoding.key)
                        if frame is None:
                            frame = frames[cohort.encoding.key] = write(cohort.encoding)
                        self._put(cohort, notice, frame)

    def flush(self) -> None:
        """Hands what was gathered to the peers: one join for each cohort, one write for each peer."""
        try:
            while self._dirty:
                self._flush(self._dirty.popleft())
        finally:
            if self._dirty:  # a peer failed in a way that none should; the others must not wait for ever
                self._soon(self.flush)

    # --- fan-out

    def _gather(self, group: Group, event: object, frames: dict[Hashable, bytes], event_type: str, data: bytes) -> None:
        for cohort in group.cohorts:
            if cohort.last is not event:
                encoding = cohort.encoding
                frame = frames.get(encoding.key)
                if frame is None:
                    frame = frames[encoding.key] = encoding.event(event_type, data)
                self._put(cohort, event, frame)

    def _put(self, cohort: Cohort, event: object, frame: bytes) -> None:
        cohort.last = event
        if not cohort.pending:
            if not self._dirty:
                self._soon(self.flush)
            self._dirty.append(cohort)
        cohort.pending.append(frame)

    def _flush(self, cohort: Cohort) -> None:
        pending = cohort.pending
        if not pending:
            return
        cohort.pending = []
        data = pending[0] if len(pending) == 1 else b"".join(pending)
        members = tuple(cohort.members)  # a write may end a peer and so change the members
        self._metrics.events_delivered += len(members) * len(pending)
        for member in members:
            member.peer.deliver(data)

    def _route(self, event_type: str) -> tuple[Bucket, ...]:
        exact = self._exact.get(event_type)
        if not self._wild:
            return () if exact is None else (exact,)
        wild = self._routes.get(event_type)
        if wild is None:
            if len(self._routes) >= _ROUTES_KEPT:
                self._routes.clear()
            wild = self._routes[event_type] = tuple(self._trie.matching(event_type))
        return wild if exact is None else (exact, *wild)

    # --- membership

    def _bucket(self, pattern: Pattern) -> Bucket:
        buckets = self._exact if pattern.exact else self._wild
        bucket = buckets.get(pattern.text)
        if bucket is None:
            bucket = buckets[pattern.text] = Bucket(pattern)
            if not pattern.exact:
                self._trie.put(pattern, bucket)
                self._routes.clear()
        return bucket

    def _leave(self, groups: Iterable[Group]) -> None:
        for group in groups:
            group.size -= 1
            if group.size:
                continue
            bucket = group.bucket
            bucket.drop(group)
            if not bucket.groups:
                pattern = bucket.pattern
                if pattern.exact:
                    del self._exact[pattern.text]
                else:
                    del self._wild[pattern.text]
                    self._trie.drop(pattern)
                    self._routes.clear()

    def _place(self, subscriber: Subscriber) -> None:
        """Moves the subscriber to the cohort that its pairs ask for.

        A write may end a peer (one that does not read) and so remove it: this one, or the last member of the other cohort.
        """
        if subscriber.cohort is not None:
            self._flush(subscriber.cohort)
            self._quit(subscriber)
        groups = frozenset(group for pairs in subscriber.pairs.values() for group in pairs.values())
        if not groups:
            return
        encoding = subscriber.peer.encoding
        key = (encoding.key, groups)
        cohort = self._cohorts.get(key)
        if cohort is not None:
            self._flush(cohort)  # what was gathered before the subscriber came is not for it
            cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = Cohort(key, encoding)
            for group in groups:
                group.cohorts[cohort] = None
        cohort.members[subscriber] = None
        subscriber.cohort = cohort

    def _quit(self, subscriber: Subscriber) -> None:
        cohort = subscriber.cohort
        if cohort is None:
            return
        subscriber.cohort = None
        del cohort.members[subscriber]
        if not cohort.members:
            cohort.pending = []
            del self._cohorts[cohort.key]
            for group in cohort.groups:
                del group.cohorts[cohort]
