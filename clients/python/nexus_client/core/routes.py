"""Which streams an event goes to, and whether the server sends all events of its type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nexus_client.core.matching import Filter, parse_pattern
from nexus_client.core.stream import Stream

CACHED: Final = 10_000  # event types

Pair = tuple[str, str | None]  # a pattern, and the key of a filter; None: no filter


class Route:
    """The way of one event type.

    `targets` are the streams with the filter to apply here; None if the server has applied it, or there is none. `complete`:
    the server sends every event of the type, so that a skipped offset is a loss.
    """

    __slots__ = ("complete", "targets")

    def __init__(self, targets: list[tuple[Stream, Filter | None]], complete: bool) -> None:
        self.targets = targets
        self.complete = complete


class Routes:
    """What the server may send on the present connection: it was asked for, and its end was not confirmed."""

    def __init__(self) -> None:
        self._pairs: dict[str, list[str | None]] = {}  # by pattern, the keys of its filters
        self._cache: dict[str, Route] = {}

    def add(self, pairs: Iterable[Pair]) -> None:
        self._cache.clear()
        for pattern, key in pairs:
            self._pairs.setdefault(pattern, []).append(key)

    def remove(self, pairs: Iterable[Pair]) -> None:
        self._cache.clear()
        for pattern, key in pairs:
            keys = self._pairs.get(pattern, [])
            if key in keys:
                keys.remove(key)
            if not keys:
                self._pairs.pop(pattern, None)

    def of(self, patterns: Iterable[str]) -> list[Pair]:
        """Return all pairs with one of these patterns."""
        return [(pattern, key) for pattern in patterns for key in self._pairs.get(pattern, ())]

    def clear(self) -> None:
        self._pairs.clear()
        self._cache.clear()

    def changed(self) -> None:
        """The streams have changed."""
        self._cache.clear()

    def find(self, type: str, streams: Iterable[Stream]) -> Route:
        route = self._cache.get(type)
        if route is None:
            if len(self._cache) >= CACHED:
                self._cache.clear()
            route = self._cache[type] = self._make(type, streams)
        return route

    def _make(self, type: str, streams: Iterable[Stream]) -> Route:
        keys = {key for text, keys in self._pairs.items() if parse_pattern(text).selects(type) for key in keys}
        # A stream whose filter alone was asked for receives nothing else of this type.
        return Route(
            [(stream, None if keys == {stream.key} else stream.filter) for stream in streams if stream.selects(type)],
            None in keys,
        )
