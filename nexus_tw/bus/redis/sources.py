"""The subscriptions on Redis that bring the events of all wanted patterns.

Redis compares every message that anybody publishes with every glob. So a node that needs many globs merges them: first those
with the same first component into one (`a.*`), and if these are still too many, all of them into `*`. What such a glob brings
in addition is dropped on the node, which knows the patterns. Names are no globs: they cost Redis nothing, and stay.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from nexus_tw.bus.redis.channels import Channels, Source
from nexus_tw.model.names import Pattern

MAX_GLOBS: Final = 64  # of a realm and node, each for events and for their metadata


class Change(NamedTuple):
    """The commands for Redis, in this order: no event is lost if a source is dropped after those that replace it."""

    added: list[Source]
    dropped: list[Source]


class _Own:
    """The sources that a pattern needs without merging; several patterns may need the same."""

    __slots__ = ("count", "merged")

    def __init__(self, merged: Source) -> None:
        self.count = 0  # of patterns
        self.merged = merged  # by the first component


class Sources:
    """The sources of one node and realm. Merged globs are separated again once half as many as the bound would be enough."""

    def __init__(self, channels: Channels, most: int = MAX_GLOBS) -> None:
        self._channels = channels
        self._most = most
        self._all = channels.source_of(Pattern.parse("**"))
        self._names: Counter[Source] = Counter()
        self._own: dict[Source, _Own] = {}
        self._merged: Counter[Source] = Counter()  # how many of the above each replaces
        self._level = 0  # 0: each glob is there, 1: those of the first components, 2: one for all
        self.globs: set[Source] = set()  # that are subscribed to

    def of(self, pattern: Pattern) -> Source:
        """Return the source that brings the events of a pattern which was added."""
        own = self._channels.source_of(pattern)
        return self._in_place_of(own, self._own[own]) if own.glob else own

    def add(self, pattern: Pattern) -> Change:
        own = self._channels.source_of(pattern)
        if not own.glob:
            self._names[own] += 1
            return Change([own] if self._names[own] == 1 else [], [])
        entry = self._own.get(own)
        if entry is None:
            entry = self._own[own] = _Own(self._channels.merged_source_of(pattern))
            self._merged[entry.merged] += 1
        entry.count += 1
        if self._leveled():
            return self._moved()
        source = self._in_place_of(own, entry)
        if source in self.globs:
            return Change([], [])
        self.globs.add(source)
        return Change([source], [])

    def drop(self, pattern: Pattern) -> Change:
        """Remove a pattern that was added."""
        own = self._channels.source_of(pattern)
        if not own.glob:
            return Change([], [own] if _less(self._names, own) else [])
        entry = self._own[own]
        entry.count -= 1
        if entry.count:
            return Change([], [])
        source = self._in_place_of(own, entry)
        del self._own[own]
        gone = _less(self._merged, entry.merged)
        if self._leveled():
            return self._moved()
        if self._level == 2 or (self._level == 1 and not gone):
            return Change([], [])
        self.globs.remove(source)
        return Change([], [source])

    def _in_place_of(self, own: Source, entry: _Own) -> Source:
        return (own, entry.merged, self._all)[self._level]

    def _leveled(self) -> bool:
        """Choose the level. Return whether it is another one."""
        before, needed = self._level, (len(self._own), len(self._merged), 1)
        while needed[self._level] > self._most:
            self._level += 1
        while self._level and needed[self._level - 1] <= self._most // 2:
            self._level -= 1
        return self._level != before

    def _moved(self) -> Change:
        before, self.globs = self.globs, set((self._own, self._merged, (self._all,))[self._level])
        return Change([one for one in self.globs if one not in before], [one for one in before if one not in self.globs])


def _less(counts: Counter[Source], source: Source) -> bool:
    """Count one less. Return whether it was the last."""
    counts[source] -= 1
    if counts[source]:
        return False
    del counts[source]
    return True
