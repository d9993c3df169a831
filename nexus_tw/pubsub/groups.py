"""Groups, buckets and cohorts: sets of subscribers that get the same bytes.

A bucket has the groups of one pattern. A group has the cohorts whose peers subscribe to that pattern with one filter. A cohort
has the peers with one encoding that are in the same groups. The hub adds and removes subscribers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from nexus_tw.interfaces.peers import Encoding, Peer
from nexus_tw.model.events import Rule
from nexus_tw.model.filters import Facts, Filter, scalar_key
from nexus_tw.model.names import Pattern
from nexus_tw.model.positions import Position


class Group:
    """All subscribers with the same pattern and filter."""

    __slots__ = ("bucket", "cohorts", "filter", "indexed", "size")

    def __init__(self, bucket: Bucket, filter_: Filter | None) -> None:
        self.bucket = bucket
        self.filter = filter_
        self.cohorts: dict[Cohort, None] = {}  # ordered, so that the fan-out is deterministic
        self.size = 0
        self.indexed: tuple[str, Hashable] | None = None


class Bucket:
    """All groups of one pattern, indexed by the values in their filters; in WAMP, one subscription (`number` is its id)."""

    __slots__ = ("created", "filtered", "groups", "index", "number", "pattern", "plain", "scanned", "subscribers")

    def __init__(self, pattern: Pattern, number: int, created: int) -> None:
        self.pattern = pattern
        self.number = number
        self.created = created  # ms since the epoch
        self.subscribers = 0
        self.groups: dict[Hashable, Group] = {}
        self.plain: Group | None = None
        self.filtered = False
        self.index: dict[str, dict[Hashable, list[Group]]] = {}
        self.scanned: list[Group] = []

    def group(self, filter_: Filter | None) -> Group:
        """Return the group of this filter; create it if there is none."""
        identity = filter_.identity if filter_ else None
        group = self.groups.get(identity)
        if group is None:
            group = self.groups[identity] = Group(self, filter_)
            self._arrange(group)
        return group

    def drop(self, group: Group) -> None:
        """Remove a group that has no members any more."""
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

    def peers(self) -> list[Peer]:
        """Return all subscribers of the pattern, each once."""
        cohorts = (cohort for group in self.groups.values() for cohort in group.cohorts)
        return list(dict.fromkeys(member.peer for cohort in cohorts for member in cohort.members))

    def matching(self, facts: Facts) -> Iterator[Group]:
        """Yield the groups whose filter matches the event, without the group that has no filter (`plain`)."""
        for name, values in self.index.items():
            for group in values.get(scalar_key(facts[name]), ()):
                if group.filter.matches(facts):  # type: ignore[union-attr]
                    yield group
        for group in self.scanned:
            if group.filter.matches(facts):  # type: ignore[union-attr]
                yield group

    def _arrange(self, group: Group) -> None:
        if group.filter is None:
            self.plain = group
            return
        self.filtered = True
        if not group.filter.keys:
            self.scanned.append(group)
            return
        # Of several equalities choose the one with the fewest other groups at its value; among those, prefer a name that is
        # already indexed, since each further name is one more look-up for every event.
        name, value = group.indexed = min(group.filter.keys, key=self._crowd)
        self.index.setdefault(name, {}).setdefault(value, []).append(group)

    def _crowd(self, condition: tuple[str, Hashable]) -> tuple[int, bool]:
        name, value = condition
        values = self.index.get(name)
        return (len(values.get(value, ())) if values else 0), values is None


class Batch:
    """Consecutive frames for the members of a cohort that `rule` admits; None: for all members."""

    __slots__ = ("frames", "rule")

    def __init__(self, rule: Rule | None) -> None:
        self.rule = rule
        self.frames: list[bytes] = []


class Cohort:
    """Peers that get the same bytes."""

    __slots__ = ("encoding", "groups", "key", "last", "members", "pending")

    def __init__(self, key: tuple[Hashable, frozenset[Group]], encoding: Encoding) -> None:
        self.key = key
        self.groups = key[1]
        self.encoding = encoding
        self.members: dict[Subscriber, None] = {}
        self.pending: list[Batch] = []
        self.last: object = None  # the last event added


class Subscriber:
    """A peer's state in the hub: its (pattern, filter) pairs, and the cohort that results from them."""

    __slots__ = ("cohort", "pairs", "peer", "recovered", "weight")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.weight = 0  # of its filters, including those of pairs that are not active yet
        self.pairs: dict[str, dict[Hashable, Group]] = {}  # by the pattern's text
        self.cohort: Cohort | None = None
        # Types that were recovered since it last gave up a subscription: by which filter, and from where.
        self.recovered: dict[str, tuple[Hashable, Position]] = {}

    def __len__(self) -> int:
        return sum(map(len, self.pairs.values()))

    def buckets(self, texts: Iterable[str]) -> list[Bucket]:
        """Return the buckets of these patterns; it must be subscribed to all of them."""
        return [next(iter(self.pairs[text].values())).bucket for text in texts]
