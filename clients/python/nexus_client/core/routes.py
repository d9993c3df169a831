"""Which streams an event goes to, and whether the server sends all events of its type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nexus_client.core.matching import Filter, Pattern, parse_pattern
from nexus_client.core.stream import Stream

CACHED: Final = 10_000  # event types


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
    """What was asked of the present connection, as pairs of a pattern and the key of a filter (None: no filter)."""

    def __init__(self) -> None:
        self._pairs: dict[str, list[str | None]] = {}
        self._cache: dict[str, Route] = {}

    def asked(self, patterns: Iterable[Pattern], key: str | None) -> None:
        self._cache.clear()
        for pattern in patterns:
            self._pairs.setdefault(pattern.text, []).append(key)

    def refused(self, patterns: Iterable[Pattern], key: str | None) -> None:
        self._cache.clear()
        for pattern in patterns:
            keys = self._pairs.get(pattern.text, [])
            if key in keys:
                keys.remove(key)
            if not keys:
                self._pairs.pop(pattern.text, None)

    def ended(self, patterns: Iterable[str]) -> list[str]:
        """The patterns are no longer wanted; return those that were asked for."""
        self._cache.clear()
        return [pattern for pattern in patterns if self._pairs.pop(pattern, None) is not None]

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
