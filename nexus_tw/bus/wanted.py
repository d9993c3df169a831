"""What a node wants of its bus: the subscribed patterns, and whether an event type is one of theirs."""

from __future__ import annotations

from typing import Final

from nexus_tw.model.cache import BoundedCache
from nexus_tw.model.names import Pattern
from nexus_tw.model.pattern_index import PatternMap

# Of event types whose answer is remembered: how many, and their bytes.
KEPT: Final = 16384
KEPT_BYTES: Final = 4 << 20


class Wanted:
    """The patterns that are subscribed to on one bus."""

    def __init__(self) -> None:
        self._patterns: PatternMap[Pattern] = PatternMap()
        self._answers: BoundedCache[str, bool] = BoundedCache(KEPT, KEPT_BYTES)

    def add(self, pattern: Pattern) -> None:
        self._patterns.put(pattern, pattern)
        self._forget(pattern)

    def drop(self, pattern: Pattern) -> None:
        self._patterns.drop(pattern)
        self._forget(pattern)

    def wants(self, event_type: str) -> bool:
        """Whether any subscribed pattern matches."""
        answer = self._answers.get(event_type)
        if answer is None:
            answer = next(self._patterns.matching(event_type), None) is not None
            self._answers.keep(event_type, answer, event_type)
        return answer

    def _forget(self, pattern: Pattern) -> None:
        # Most subscriptions are to one type, and a fleet that comes and goes must not cost the answers for all others.
        if pattern.exact:
            self._answers.drop(pattern.text, pattern.text)
        else:
            self._answers.forget()
