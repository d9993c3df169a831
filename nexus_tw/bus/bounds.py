"""The bounds of what a bus keeps: the history of each event type, by `[history]`, and the roll of the fleet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import Pattern, parse_pattern
from nexus_tw.model.settings import History

CACHED: Final = 16384  # event types with cached bounds
MAX_KNOWN: Final = 10000  # types whose positions one pattern may return
MAX_NODES: Final = 1000  # of a realm's fleet
MAX_BURIED: Final = 1000  # nodes that are known to be buried; the oldest are forgotten
MAX_CLAIMS: Final = 262144  # patterns that are registered on all nodes of a realm together


@dataclass(frozen=True, slots=True)
class Bound:
    """The bounds of one event type."""

    count: int
    age: float
    bytes: int


class Bounds:
    """Finds the bounds of a type: those of the most specific matching pattern, else those for all types.

    Patterns are compared from the left: a literal component is more specific than `*`, and `*` more than `**`. So no two
    patterns that match one type are equally specific.
    """

    def __init__(self, history: History) -> None:
        self.total = history.total
        self._default = Bound(history.count, history.age, history.bytes)
        self._patterns = [
            (parse_pattern(text, "history"), _over(self._default, kept.count, kept.age, kept.bytes))
            for text, kept in history.patterns.items()
        ]
        self._patterns.sort(key=lambda each: _generality(each[0]))
        self.any = any(bound.count for bound in (self._default, *(bound for _, bound in self._patterns)))
        self.of = lru_cache(maxsize=CACHED)(self._of)

    def _of(self, event_type: str) -> Bound | None:
        """Return the bounds; None without a history."""
        found = next((bound for pattern, bound in self._patterns if pattern.matches(event_type)), self._default)
        return found if found.count else None


def too_many(pattern: Pattern) -> NexusError:
    """Return the error for a pattern that selects more than `MAX_KNOWN` types of the history."""
    return NexusError("limit_exceeded", f"{pattern.text}: matches more than {MAX_KNOWN} event types; ask for fewer at once")


def _over(default: Bound, count: int | None, age: float | None, size: int | None) -> Bound:
    return Bound(
        default.count if count is None else count,
        default.age if age is None else age,
        default.bytes if size is None else size,
    )


def _generality(pattern: Pattern) -> tuple[int, ...]:
    return (*(part == "*" for part in pattern.parts), *(() if pattern.tail is None else (2,)))
