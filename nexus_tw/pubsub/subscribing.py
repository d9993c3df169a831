"""Subscribing: authorizes a peer's request, then subscribes on the bus and in the hub.

This node has one subscription on the bus for each pattern with subscribers. A request is answered once it is active.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from nexus_tw.interfaces.peers import Peer
from nexus_tw.interfaces.plugins import IBus
from nexus_tw.interfaces.realm import SubscribeReply, SubscribeRequest
from nexus_tw.model.budgets import Budget
from nexus_tw.model.errors import NexusError
from nexus_tw.model.filters import Filter, compile_filter
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.names import Pattern, check_name, parse_pattern
from nexus_tw.model.policy import Principal
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import Limits
from nexus_tw.pubsub.cursors import Cursors
from nexus_tw.pubsub.groups import Bucket, Subscriber
from nexus_tw.pubsub.holdings import Holding
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.joining import Joining, Places
from nexus_tw.pubsub.meta_events import Meta
from nexus_tw.pubsub.order import Lines
from nexus_tw.pubsub.recovery import AWAY, Recovery
from nexus_tw.pubsub.watching import Watching, selects_meta
from nexus_tw.runtime.guard import Guard

WILDCARDS: Final = 32768  # patterns of a realm and process; Redis compares all of them with every published event

_guarded: Final = Guard(__name__, "A subscriber could not be told that its subscription is active")


class _Interest:
    """This node's subscription on the bus for a pattern, with the requests that wait for it to become active.

    A pattern with a wildcard counts for the account that requested it first, as long as it has any subscriber.
    """

    __slots__ = ("account", "count", "missing", "pattern", "standing", "waiters")

    def __init__(self, pattern: Pattern, account: str) -> None:
        self.pattern = pattern
        self.account = account
        self.count = 0
        self.missing = 1  # confirmations
        self.standing = False
        self.waiters: list[Callable[[], None]] = []

    def stands(self) -> None:
        self.missing -= 1
        if self.missing:
            return
        self.standing = True
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            _guarded(waiter)


class Subscriptions:
    """The subscriptions of a realm's clients on this node."""

    def __init__(
        self,
        bus: IBus,
        hub: Hub,
        clients: dict[Peer, Subscriber],
        limits: Limits,
        metrics: Metrics,
        meta: Meta,
        watching: Watching,
        cursors: Cursors,
        recovery: Recovery,
    ) -> None:
        """`clients` is filled here, with the place of each subscribed peer in the hub."""
        self._meta = meta
        self._watching = watching
        self._cursors = cursors
        self._recovery = recovery
        self._bus = bus
        self._hub = hub
        self._limits = limits
        self._filters = Budget("filters", "filters_all", limits, metrics)
        self._wildcards = Budget("wildcards", WILDCARDS, limits, metrics)
        self._interests: dict[str, _Interest] = {}
        self._clients = clients
        self.lines = Lines(limits, metrics)

    def subscribe(self, peer: Peer, rights: Principal, request: SubscribeRequest, reply: SubscribeReply) -> None:
        """Add (pattern, filter) pairs to the peer's. No later request of the peer overtakes this one (`nexus_tw.pubsub.order`).

        If one pattern is refused, the whole request is refused. `rights` must cover all patterns. While the bus is unreachable
        it is unknown what was missed, so `since` is refused.
        """
        patterns, filters, since = request
        try:
            # Before parsing each: thousands of new patterns in one message would delay all clients.
            if 0 < self._limits.subscriptions < len(patterns) and self._limits.subscriptions < len(set(patterns)):
                raise self._too_many()
            parsed = [
                parse_pattern(one, f"events[{place}]") if isinstance(one, str) else one for place, one in enumerate(patterns)
            ]
            for pattern in parsed:
                rights.require_cover("subscribe", pattern)
            condition = compile_filter(filters, self._limits.filter_nodes, self._limits.filter_bytes)
            places = _places(since)
            if since is not None and not self._bus.available:
                raise AWAY
        except NexusError as error:
            reply.fail(error)
            return
        subscriber = self._clients.get(peer)
        if subscriber is None:
            subscriber = self._clients[peer] = Subscriber(peer)
        try:
            self._in_turn(peer, lambda: self._subscribe(subscriber, parsed, condition, places, reply))
        except NexusError as error:
            reply.fail(error)

    def unsubscribe(self, peer: Peer, events: list[str], ok: Callable[[], None]) -> None:
        """Remove the peer's pairs with exactly these pattern texts; patterns that it does not have change nothing.

        Raise `rate_limited` if too many requests of the peer are still queued.
        """
        self._in_turn(peer, lambda: self._unsubscribe(peer, events, ok))

    def gone(self, peer: Peer) -> None:
        """Remove all subscriptions of a peer that is gone."""
        self.lines.leave(peer)
        subscriber = self._clients.pop(peer, None)
        if subscriber is not None:
            self._recovery.gone(peer)
            held = list(subscriber.pairs)
            buckets = subscriber.buckets(held)
            self._lighten(subscriber, subscriber.weight)
            self._hub.remove(subscriber)
            self._release(held)
            self._tell_left(peer, buckets)

    def subscription(self, pattern: Pattern) -> Bucket:
        """Return the subscription of a pattern that has subscribers on this node."""
        bucket = self._hub.bucket(pattern)
        assert bucket is not None, pattern
        return bucket

    def held(self, peer: Peer, number: int) -> Pattern | None:
        """Return the pattern of the peer's subscription with that id; None if it has none."""
        subscriber = self._clients.get(peer)
        if subscriber is not None:
            for bucket in subscriber.buckets(subscriber.pairs):
                if bucket.number == number:
                    return bucket.pattern
        return None

    def count(self, peer: Peer) -> int:
        """Return how many (pattern, filter) pairs the peer subscribes to."""
        subscriber = self._clients.get(peer)
        return 0 if subscriber is None else len(subscriber)

    def _too_many(self) -> NexusError:
        return NexusError("limit_exceeded", f"More than {self._limits.subscriptions} subscriptions")

    def _in_turn(self, peer: Peer, act: Callable[[], None]) -> None:
        if self.lines.waits(peer):
            self.lines.place(peer).ready(act)
        else:
            act()

    def _subscribe(
        self,
        subscriber: Subscriber,
        patterns: list[Pattern],
        condition: Filter | None,
        since: Places | None,
        reply: SubscribeReply,
    ) -> None:
        peer = subscriber.peer
        if self.lines.left(peer):
            return
        identity = condition.identity if condition else None
        new = {p.text: p for p in patterns if identity not in subscriber.pairs.get(p.text, ())}
        limit = self._limits.subscriptions
        if limit and len(subscriber) + len(new) > limit:
            reply.fail(self._too_many())
            return
        burden = condition.weight * len(new) if condition else 0
        try:
            self._burden(subscriber, burden)
        except NexusError as error:
            reply.fail(error)
            return
        acquired = [p for p in new.values() if p.text not in subscriber.pairs]
        account = peer.principal.account
        try:
            self._wildcards.take(account, sum(not p.exact and p.text not in self._interests for p in acquired))
        except NexusError as error:
            self._lighten(subscriber, burden)
            reply.fail(error)
            return
        interests = [self._acquire(p, account) for p in acquired]
        waited_for = [interest for interest in interests if not interest.standing]
        missing = len(waited_for)

        created: list[Pattern] = []

        def standing() -> None:
            nonlocal missing
            missing -= 1
            if missing == 0:
                done = True
                try:
                    done = self._recovery.begin(joining)
                finally:
                    if done:
                        self.lines.release(peer)

        def join() -> bool:
            if not present():  # the peer left in the meantime, and `gone` did not know of these
                self._release(p.text for p in acquired)
                return False
            created.extend(p for p in acquired if self._hub.bucket(p) is None)
            self._hub.subscribe(subscriber, [(p, condition) for p in patterns])
            return present()  # writing its gathered events may have ended it

        def joined() -> None:
            for pattern in acquired:
                self._meta.subscribed(peer, self.subscription(pattern), pattern in created)

        def failed(error: NexusError) -> None:
            if present():
                self._lighten(subscriber, burden)
            self._release(p.text for p in acquired)
            reply.fail(error)

        def present() -> bool:
            return self._clients.get(peer) is subscriber

        def over() -> None:
            self.lines.release(peer)

        distinct = list({p.text: p for p in patterns}.values())
        holding = Holding(self._hub, subscriber, condition)
        joining = Joining(peer, distinct, condition, since, holding, present, reply.ok, join, joined, failed, over)
        if not missing:
            if not self._recovery.begin(joining):
                self.lines.hold(peer)
            return
        self.lines.hold(peer)
        for interest in waited_for:
            interest.waiters.append(standing)

    def _unsubscribe(self, peer: Peer, events: list[str], ok: Callable[[], None]) -> None:
        subscriber = self._clients.get(peer)
        if subscriber is None:
            ok()
            return
        held = [text for text in dict.fromkeys(events) if text in subscriber.pairs]
        buckets = subscriber.buckets(held)
        groups = (group for text in held for group in subscriber.pairs[text].values())
        self._lighten(subscriber, sum(group.filter.weight for group in groups if group.filter is not None))
        self._hub.unsubscribe(subscriber, held)
        subscriber.recovered.clear()
        self._release(held)
        ok()
        self._tell_left(peer, buckets)

    def _burden(self, subscriber: Subscriber, weight: int) -> None:
        """Count filters of this weight. Raise `limit_exceeded` beyond the bounds of a connection, its subject, or the realm."""
        limit = self._limits.filters
        if 0 < limit < subscriber.weight + weight:
            raise NexusError("limit_exceeded", f"filters: more than {limit} values, or parts of names, in all of them")
        if weight:
            self._filters.take(subscriber.peer.principal.account, weight)
            subscriber.weight += weight

    def _lighten(self, subscriber: Subscriber, weight: int) -> None:
        if weight:
            self._filters.give_back(subscriber.peer.principal.account, weight)
            subscriber.weight -= weight

    def _tell_left(self, peer: Peer, buckets: list[Bucket]) -> None:
        for bucket in buckets:
            self._meta.unsubscribed(peer, bucket, not bucket.groups)

    def _acquire(self, pattern: Pattern, account: str) -> _Interest:
        interest = self._interests.get(pattern.text)
        if interest is None:
            interest = self._interests[pattern.text] = _Interest(pattern, account)
            if selects_meta(pattern):
                interest.missing += 1
                self._watching.watch(pattern, interest.stands)
            self._bus.subscribe(pattern, interest.stands)
        interest.count += 1
        return interest

    def _release(self, texts: Iterable[str]) -> None:
        ended: list[Pattern] = []
        for text in texts:
            interest = self._interests[text]
            interest.count -= 1
            if not interest.count:
                del self._interests[text]
                if not interest.pattern.exact:
                    self._wildcards.give_back(interest.account)
                if selects_meta(interest.pattern):
                    self._watching.unwatch(interest.pattern)
                self._bus.unsubscribe(interest.pattern)
                ended.append(interest.pattern)
        if ended:
            self._cursors.unwanted(ended)


def _places(since: Mapping[str, str] | None) -> Places | None:
    """Return the positions that a client gave. Raise `invalid_message`, naming the member, if one of them is invalid."""
    if since is None:
        return None
    for event_type in since:
        check_name(event_type, "since")
    return {event_type: Position.parse(text, f"since.{event_type}") for event_type, text in since.items()}
