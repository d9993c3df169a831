"""The hub: the subscriptions of this node's clients, and the fan-out of events to them.

The cost of a fan-out depends as little as possible on the number of subscribers:

* Subscribers with the same (pattern, filter) form one **group**. A filter is evaluated once for each group, and groups whose
  filter has an equality are found by the event's value in a dictionary.
* Peers with the same encoding and the same groups form one **cohort**. The frames for a cohort within a reactor turn are
  gathered once and joined once; each member gets the same bytes in one write.

If an event matches several subscriptions of a client, the encoding decides: with `once`, a cohort gets the event once, which
also prevents duplicates for its clients; otherwise once for each subscription, that is, for each pattern. An event with a rule
(`events.Rule`) goes only to the members of a cohort that the rule admits; if that is all of them, it joins the other frames.

A peer that changes its subscriptions within a turn first gets the frames of its old cohort, and none gathered before in the new
one.

An exception of a peer, an encoding or a filter affects no other client: it is raised again at the end of the turn, where it is
logged. A peer that raised has lost events, so it is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable
from functools import partial
from typing import Final, NoReturn

from nexus_tw.interfaces.peers import Encoding
from nexus_tw.model.errors import INTERNAL
from nexus_tw.model.events import Event, Rule
from nexus_tw.model.filters import Facts, Filter
from nexus_tw.model.ids import number_of
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternIndex, selecting
from nexus_tw.pubsub.fan import Fan
from nexus_tw.pubsub.groups import Batch, Bucket, Cohort, Group, Subscriber

ROUTES_BYTES: Final = 8 << 20  # of the cache of matching patterns by event type


class Hub:
    """Subscriptions, groups, fan-out."""

    def __init__(self, end_of_turn: Callable[[Callable[[], None]], None], metrics: Metrics, now: Callable[[], float]) -> None:
        """`end_of_turn` calls its argument once at the end of the reactor turn; `now` returns seconds since the epoch."""
        self._end_of_turn = end_of_turn
        self._now = now
        self._metrics = metrics
        self._buckets: PatternIndex[Bucket] = PatternIndex(selecting, ROUTES_BYTES)
        self._cohorts: dict[tuple[Hashable, frozenset[Group]], Cohort] = {}
        self._dirty: deque[Cohort] = deque()
        self._by_number: dict[int, Bucket] = {}

    def subscribe(self, subscriber: Subscriber, pairs: Iterable[tuple[Pattern, Filter | None]]) -> None:
        """Add pairs to the subscriber; those that it has already change nothing."""
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
        """Remove all pairs of the subscriber with exactly these pattern texts."""
        left = self._left([subscriber.pairs.pop(text, {}) for text in patterns])
        if left:
            self._place(subscriber)
            self._leave(left)

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a subscriber that has left; it gets no more events, not even those gathered in this turn."""
        left = self._left(subscriber.pairs.values())
        subscriber.pairs.clear()
        self._quit(subscriber)
        self._leave(left)

    def pause(self, subscriber: Subscriber) -> None:
        """Give a subscriber what was gathered for it, and nothing more until it subscribes again."""
        if subscriber.cohort is not None:
            self._flush(subscriber.cohort)
            self._quit(subscriber)

    def patterns(self) -> list[Pattern]:
        """Return all patterns with subscribers on this node."""
        return [bucket.pattern for bucket in self._buckets]

    def interested(self, event_type: str) -> list[Pattern]:
        """Return the subscribed patterns that select an event of this type."""
        return [bucket.pattern for bucket in self._buckets.find(event_type)]

    def buckets(self) -> list[Bucket]:
        """Return all subscriptions, one for each pattern."""
        return list(self._buckets)

    def numbered(self, number: int) -> Bucket | None:
        """Return the subscription with that id; None if there is none."""
        return self._by_number.get(number)

    def matching(self, name: str) -> list[Bucket]:
        """Return the subscriptions whose pattern matches this name, reserved names included."""
        return self._buckets.matching(name)

    def bucket(self, pattern: Pattern) -> Bucket | None:
        """Return the subscription of exactly this pattern; None if there is none."""
        return self._buckets.get(pattern)

    def wanted(self, event_type: str) -> bool:
        """Return whether an event of this type may have a recipient on this node."""
        return self._buckets.any(event_type)

    def event(self, event: Event, excluded: Collection[Subscriber] = ()) -> None:
        """Gather the event for every cohort of its recipients. `excluded` are those that its rule excludes by session id."""
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
        """Send a frame that is no event to all subscribers of exactly these patterns, once to each, in order with their events.

        `write` returns the frame for an encoding. Skip encodings that have no such message, for which the frame is empty.
        """
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

    def tell_filtered(self, event_type: str, write: Callable[[Encoding], bytes]) -> None:
        """Send a frame that is no event, once and in order with the events, to all subscribers of this type whose subscriptions
        to it all have filters."""
        buckets = [bucket for bucket in self._buckets.find(event_type) if bucket.filtered]
        if not buckets:
            return
        plain = {bucket.plain for bucket in self._buckets.find(event_type)}
        notice = object()
        frames: dict[Hashable, bytes] = {}
        for bucket in buckets:
            for group in bucket.groups.values():
                for cohort in group.cohorts:
                    if cohort.last is not notice and plain.isdisjoint(cohort.groups):
                        frame = frames.get(cohort.encoding.key)
                        if frame is None:
                            frame = frames[cohort.encoding.key] = self._written(write, cohort.encoding)
                        if frame:
                            self._put(cohort, notice, frame, None)

    def flush(self) -> None:
        """Write the gathered frames to the peers: one join for each cohort, one write for each peer."""
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
            bucket = Bucket(pattern, number_of(pattern, self._by_number), int(self._now() * 1000))
            self._by_number[bucket.number] = bucket
            self._buckets.put(pattern, bucket)
        return bucket

    @staticmethod
    def _left(held: Iterable[dict[Hashable, Group]]) -> list[Group]:
        """Count a subscriber out of the patterns that it has left; return their groups. `held` has its groups by pattern."""
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
        """Move the subscriber to the cohort of its encoding and pairs.

        A write may end a peer (a slow consumer) and so remove it: this one, or the last member of the other cohort.
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
            self._flush(cohort)  # frames gathered before the subscriber joined are not for it
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
    """Return whether the rules are known to be equal. Long lists are not compared, as it would be done for each cohort."""
    if one is other:
        return True
    return one is not None and other is not None and one.short and other.short and one == other


def _raise(error: Exception) -> NoReturn:
    raise error
