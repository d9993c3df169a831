"""The hub: who on this node subscribes to what, and the fan-out of an event to them.

The cost of a fan-out is kept away from the number of subscribers:

* Subscribers of the same (pattern, filter) are one **group**; a filter is evaluated once for each group, and groups whose
  filter asks for equality are found by the event's value in a dictionary, not by asking each.
* Peers with the same encoding and the same groups are one **cohort**. What a cohort gets within a reactor turn is gathered
  once, joined once, and the same bytes go to each member in one write.

What a client hears of an event that matches several of its subscriptions is its dialect's matter: by an encoding of which
`once` is true it is put into a cohort once, which is also what keeps a client from getting it twice; else once for each
subscription, a subscription being a pattern. An event that is not for everybody (`events.Rule`) goes to those members of a
cohort that it is for; where that is all of them, it travels with the others.

A peer that changes its subscriptions in mid-turn first gets what its old cohort has gathered, and nothing that the new one had.

A peer, an encoding or a filter that raises costs nobody else anything: what was raised is raised again at the end of the
turn, where it is logged. A peer that raised has lost events, so it is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable
from functools import partial
from itertools import count
from typing import Final, NoReturn

from nexus_tw.interfaces.peers import Encoding
from nexus_tw.model.errors import INTERNAL
from nexus_tw.model.events import Event, Rule
from nexus_tw.model.filters import Facts, Filter
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, selecting
from nexus_tw.pubsub.fan import Fan
from nexus_tw.pubsub.groups import Batch, Bucket, Cohort, Group, Subscriber

ROUTES_BYTES: Final = 8 << 20  # of event types for which the matching patterns are remembered, which may be many


class Hub:
    """Subscriptions, groups, fan-out."""

    def __init__(self, end_of_turn: Callable[[Callable[[], None]], None], metrics: Metrics, now: Callable[[], float]) -> None:
        """`end_of_turn` calls back once at the end of the reactor turn; `now` gives seconds since the epoch."""
        self._end_of_turn = end_of_turn
        self._now = now
        self._metrics = metrics
        self._buckets: PatternIndex[Bucket] = PatternIndex(selecting, ROUTES_BYTES)
        self._cohorts: dict[tuple[Hashable, frozenset[Group]], Cohort] = {}
        self._dirty: deque[Cohort] = deque()
        self._numbers = count(1)
        self._by_number: dict[int, Bucket] = {}

    def subscribe(self, subscriber: Subscriber, pairs: Iterable[tuple[Pattern, Filter | None]]) -> None:
        """Adds pairs; those the subscriber has already change nothing."""
        for pattern, filter_ in pairs:
            bucket = self._bucket(pattern)
            group = bucket.group(filter_)
            mine = subscriber.pairs.get(pattern.text)
            if mine is None:
                mine = subscriber.pairs[pattern.text] = {}
                bucket.subscribers += 1
            identity = filter_.identity if filter_ else None
            if identity not in mine:
                mine[identity] = group
                group.size += 1
        self._place(subscriber)

    def unsubscribe(self, subscriber: Subscriber, patterns: Iterable[str]) -> None:
        """Drops all of the subscriber's pairs that were written with these very strings."""
        left = self._left([subscriber.pairs.pop(text, {}) for text in patterns])
        if left:
            self._place(subscriber)
            self._leave(left)

    def remove(self, subscriber: Subscriber) -> None:
        """Drops everything of a subscriber that goes; it gets nothing any more, gathered events included."""
        left = self._left(subscriber.pairs.values())
        subscriber.pairs.clear()
        self._quit(subscriber)
        self._leave(left)

    def patterns(self) -> list[Pattern]:
        """Every pattern that somebody here subscribes to."""
        return [bucket.pattern for bucket in self._buckets]

    def interested(self, event_type: str) -> list[Pattern]:
        """The patterns, of those subscribed to, that an event of this type matches."""
        return [bucket.pattern for bucket in self._buckets.find(event_type)]

    def buckets(self) -> list[Bucket]:
        """What is subscribed to, pattern by pattern."""
        return list(self._buckets)

    def numbered(self, number: int) -> Bucket | None:
        """Return the subscriptions with that id."""
        return self._by_number.get(number)

    def matching(self, name: str) -> list[Bucket]:
        """Return the subscriptions whose pattern matches this name, reserved names included."""
        return self._buckets.matching(name)

    def bucket(self, pattern: Pattern) -> Bucket | None:
        """What is subscribed to under this very pattern."""
        return self._buckets.get(pattern)

    def wanted(self, event_type: str) -> bool:
        """Whether anybody here might get an event of this type."""
        return self._buckets.any(event_type)

    def event(self, event: Event, excluded: Collection[Subscriber] = ()) -> None:
        """Gathers the event for every cohort that shall get it. `excluded` are those that its rule leaves out by session."""
        buckets = self._buckets.find(event.type)
        if not buckets:
            return
        fan = Fan(event, excluded)
        facts: Facts | None = None  # the same for the filters of all patterns
        for bucket in buckets:
            if bucket.plain is not None:
                self._gather(bucket.plain, fan)
            if bucket.filtered:
                try:
                    if facts is None:
                        facts = Facts(event.payload.value)
                    for group in bucket.matching(facts):
                        self._gather(group, fan)
                except Exception as error:
                    self._fails(error)

    def tell(self, patterns: Iterable[Pattern], write: Callable[[Encoding], bytes]) -> None:
        """Puts a frame of another kind than an event, once, among the events of everyone who subscribes to one of these
        very patterns. Those in whose encoding it is nothing get nothing."""
        notice = object()
        frames: dict[Hashable, bytes] = {}
        for pattern in patterns:
            bucket = self.bucket(pattern)
            for group in bucket.groups.values() if bucket is not None else ():
                for cohort in group.cohorts:
                    if cohort.last is not notice:
                        frame = frames.get(cohort.encoding.key)
                        if frame is None:
                            frame = frames[cohort.encoding.key] = self._written(write, cohort.encoding)
                        if frame:
                            self._put(cohort, notice, frame, None)

    def flush(self) -> None:
        """Hands what was gathered to the peers: one join for each cohort, one write for each peer."""
        while self._dirty:
            self._flush(self._dirty.popleft())

    # --- fan-out

    def _gather(self, group: Group, fan: Fan) -> None:
        for cohort in group.cohorts:
            if cohort.last is not fan.event or not cohort.encoding.once:
                try:
                    frame = fan.frame(cohort.encoding, group.bucket)
                except Exception as error:
                    self._fails(error)
                    frame = self._written(fan.gap, cohort.encoding)
                if frame:
                    self._put(cohort, fan.event, frame, fan.rule_for(cohort))

    def _put(self, cohort: Cohort, event: object, frame: bytes, rule: Rule | None) -> None:
        cohort.last = event
        pending = cohort.pending
        if not pending:
            if not self._dirty:
                self._end_of_turn(self.flush)
            self._dirty.append(cohort)
            pending.append(Batch(rule))
        elif not _alike(pending[-1].rule, rule):
            pending.append(Batch(rule))
        pending[-1].frames.append(frame)

    def _flush(self, cohort: Cohort) -> None:
        pending = cohort.pending
        if not pending:
            return
        cohort.pending = []
        members = tuple(cohort.members)  # a write may end a peer and so change the members
        for batch in pending:
            frames, rule = batch.frames, batch.rule
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            meant = members if rule is None else [member for member in members if rule.admits(member.peer)]
            self._metrics.events_delivered += len(meant) * len(frames)
            for member in meant:
                try:
                    member.peer.deliver(data)
                except Exception as error:
                    self._fails(error)
                    self._end_of_turn(partial(member.peer.close, INTERNAL))

    def _written(self, write: Callable[[Encoding], bytes], encoding: Encoding) -> bytes:
        try:
            return write(encoding)
        except Exception as error:
            self._fails(error)
            return b""

    def _fails(self, error: Exception) -> None:
        self._end_of_turn(partial(_raise, error))

    # --- membership

    def _bucket(self, pattern: Pattern) -> Bucket:
        bucket = self._buckets.get(pattern)
        if bucket is None:
            bucket = Bucket(pattern, next(self._numbers), int(self._now() * 1000))
            self._by_number[bucket.number] = bucket
            self._buckets.put(pattern, bucket)
        return bucket

    @staticmethod
    def _left(held: Iterable[dict[Hashable, Group]]) -> list[Group]:
        """Return the groups that a subscriber has by its patterns, of which it has left each."""
        left: list[Group] = []
        for groups in held:
            left += groups.values()
            if groups:
                left[-1].bucket.subscribers -= 1
        return left

    def _leave(self, groups: Iterable[Group]) -> None:
        for group in groups:
            group.size -= 1
            if group.size:
                continue
            bucket = group.bucket
            bucket.drop(group)
            if not bucket.groups:
                del self._by_number[bucket.number]
                self._buckets.drop(bucket.pattern)

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


def _alike(one: Rule | None, other: Rule | None) -> bool:
    """Whether the two rules are known to say the same. Long lists are not compared: that would be done for each cohort."""
    if one is other:
        return True
    return one is not None and other is not None and one.short and other.short and one == other


def _raise(error: Exception) -> NoReturn:
    raise error
