"""One stream of events: what it asks for and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from nexus_client.core.matching import Filter, Pattern, parse_pattern
from nexus_client.core.messages import Garbage, parse_position
from nexus_client.events import Gap

TYPES: Final = 100_000  # how many event types a stream keeps a position of


class Mark:
    """How far a stream has come in the history of one type."""

    __slots__ = ("epoch", "offset")

    def __init__(self, epoch: str, offset: int) -> None:
        self.epoch = epoch
        self.offset = offset

    @property
    def position(self) -> str:
        return f"{self.epoch}:{self.offset}"

    def reaches(self, epoch: str, offset: int) -> bool:
        """Return whether everything up to that position has been delivered."""
        return self.epoch == epoch and self.offset >= offset


class Stream:
    """A stream.

    `marks` are its positions by type. `returning`: events before its present connection are owed to it, or a `Gap`. `live`:
    the present connection's server has accepted it. `bare`: the types that it has received without a position; of `covered`
    ones it is known, or was told, what the return to the present connection has cost.
    """

    __slots__ = ("bare", "covered", "filter", "key", "live", "marks", "number", "patterns", "returning", "where")

    def __init__(
        self, number: int, patterns: Sequence[str], where: Mapping[str, Any] | None, since: Mapping[str, str] | None
    ) -> None:
        if isinstance(patterns, str) or not patterns:
            raise ValueError("patterns: expected a list of one or more patterns")
        self.number = number
        self.patterns: tuple[Pattern, ...] = tuple(parse_pattern(text) for text in dict.fromkeys(patterns))
        self.where = where or None
        self.filter = Filter(where) if where else None
        self.key = self.filter.key if self.filter else None
        self.marks: dict[str, Mark] = {}
        self.returning = since is not None
        self.live = False
        self.bare: set[str] = set()
        self.covered: set[str] = set()
        for name, position in (since or {}).items():
            try:
                mark = Mark(*parse_position(position))
            except Garbage:
                raise ValueError(f"since.{name}: {position!r} is no position") from None
            if self.selects(name):
                self.marks[name] = mark

    @property
    def positions(self) -> dict[str, str]:
        """Return, by type, the position up to which the stream has been delivered."""
        return {name: mark.position for name, mark in self.marks.items()}

    def selects(self, type: str) -> bool:
        return any(pattern.selects(type) for pattern in self.patterns)

    def overlaps(self, other: Stream) -> bool:
        return any(mine.overlaps(theirs) for mine in self.patterns for theirs in other.patterns)

    def gap(self, type: str, reason: str, position: str | None) -> Gap:
        """Return the gap from the present mark of the type to that position."""
        mark = self.marks.get(type)
        return Gap(type, reason, position, mark.position if mark else None)

    def accept(self, positions: Mapping[str, str] | None, recovered: Mapping[str, bool], sent: Mapping[str, str]) -> list[Gap]:
        """The server has accepted the stream; return what the return has cost.

        `positions` and `recovered` are those of the reply (None: there is no history), `sent` the `since` of the request.
        """
        gaps: list[Gap] = []
        for name, position in (positions or {}).items():
            if not self.selects(name):
                continue
            epoch, offset = parse_position(position)
            mark = self.marks.get(name)
            if mark is not None and mark.reaches(epoch, offset):
                continue
            if self.returning:
                whole = recovered.get(name, False)
                if whole and mark is not None and mark.epoch == epoch:
                    continue  # what follows the mark comes, or does not match
                if not whole or (mark is not None and mark.position != sent.get(name)):
                    gaps.append(self.gap(name, "reconnect", position))
            self.marks[name] = Mark(epoch, offset)
        if self.returning:
            gaps += self._forgotten(positions, recovered) if positions is not None else self._without_history()
            if positions is not None and not any(recovered.get(name, False) for name in sent):
                # Nothing shows that it is still the same history: types that came and went with the old one are unknown.
                gaps += [self.gap(pattern.text, "reconnect", None) for pattern in self.patterns if not pattern.exact]
        self.live = True
        return gaps

    def _forgotten(self, positions: Mapping[str, str], recovered: Mapping[str, bool]) -> list[Gap]:
        """Return gaps for the types of which the server has no history, or has none any more."""
        exact = (pattern.text for pattern in self.patterns if pattern.exact)
        gone = dict.fromkeys((*exact, *self.marks, *sorted(self.bare)))
        missing = [name for name in gone if name not in positions and not recovered.get(name, False)]
        gaps = [self.gap(name, "reconnect", None) for name in missing]
        for name in missing:
            self.marks.pop(name, None)
        self.covered.update(missing)
        return gaps

    def _without_history(self) -> list[Gap]:
        """Return a gap for each pattern: the server keeps no history at all."""
        gaps = [self.gap(pattern.text, "reconnect", None) for pattern in self.patterns]
        self.marks.clear()
        self.covered.update(pattern.text for pattern in self.patterns)
        return gaps

    def uncovered(self, type: str) -> bool:
        """Return whether an event without a position may follow others of its type that were missed; only once."""
        self.bare.add(type)
        if type in self.covered or any(pattern.text in self.covered and pattern.selects(type) for pattern in self.patterns):
            return False
        self.covered.add(type)
        return self.returning

    def lost(self) -> None:
        """The connection has ended."""
        self.returning = self.returning or self.live or bool(self.marks)
        self.live = False
        self.covered.clear()
