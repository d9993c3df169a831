"""What a node wants of its bus: the subscribed patterns, and whether an event type is one of theirs."""

from __future__ import annotations

from typing import Final

from nexus_tw.topics import Pattern, PatternMap

KEPT: Final = 16384  # event types whose answer is remembered


class Wanted:
    """The patterns that are subscribed to on one bus."""

    def __init__(self) -> None:
        self._patterns: PatternMap[Pattern] = PatternMap()
        self._answers: dict[str, bool] = {}

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
            if len(self._answers) >= KEPT:
                self._answers.clear()
            answer = next(self._patterns.matching(event_type), None) is not None
            self._answers[event_type] = answer
        return answer

    def _forget(self, pattern: Pattern) -> None:
        # Most subscriptions are to one type, and a fleet that comes and goes must not cost the answers for all others.
        if pattern.exact:
            self._answers.pop(pattern.text, None)
        else:
            self._answers.clear()
