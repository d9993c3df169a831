"""Reconciling: what this node has missed while the bus was away.

Once the bus is back, the node asks for the positions of all types at once. What the history has is delivered to everybody here,
in order; what it cannot give is told by `continuity`, type by type.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Final

from nexus_tw.interfaces.plugins import IBus
from nexus_tw.model.errors import NexusError
from nexus_tw.model.names import EVERYTHING, Pattern, is_reserved
from nexus_tw.model.positions import Position
from nexus_tw.pubsub.arriving import Arrivals
from nexus_tw.pubsub.cursor import Cursor
from nexus_tw.pubsub.cursors import LIVE_ONLY, Cursors
from nexus_tw.pubsub.hub import Hub
from nexus_tw.pubsub.reading import NO_EPOCH

WITNESSES: Final = 8  # epochs by which it is known whether a type had its first event while the bus was away
APART: Final = 16  # patterns whose types are asked for one by one; of more, all types are


def _nothing() -> None:
    pass


class Reconciler:
    """Brings all cursors of a node up to date."""

    def __init__(self, bus: IBus, hub: Hub, cursors: Cursors, arrivals: Arrivals, keeps_all: bool) -> None:
        """`keeps_all` says whether every type has a history by its configuration."""
        self._bus = bus
        self._hub = hub
        self._cursors = cursors
        self._arrivals = arrivals
        self._keeps_all = keeps_all
        self._left = 0  # answers that are waited for
        self._round = 0
        self._fresh: set[str] = set()
        self._wild: list[Pattern] = []  # that were not told that unknown types may have lost events
        self._done: Callable[[], None] = _nothing

    def lost(self) -> None:
        """The bus is away."""
        self._cursors.lost()
        self._interrupt()

    def _interrupt(self) -> None:
        self._round += 1
        self._cursors.unplaced |= self._fresh
        self._fresh = set()
        if self._cursors.witnesses is None:
            epochs = [cursor.epoch for cursor in self._cursors][-WITNESSES:] if self._cursors.whole else []
            self._cursors.witnesses = dict.fromkeys(epochs)

    def restored(self, done: Callable[[], None]) -> None:
        """The bus is back: find out what was missed. Call `done` once that is delivered or told, unless it is lost again."""
        self._interrupt()
        self._done = done
        self._fresh, self._cursors.unplaced = self._cursors.unplaced, set()
        history = self._bus.history
        if history is None:
            self._give_up()
            done()
            return
        self._cursors.whole = True
        patterns = [pattern for pattern in self._hub.patterns() if not is_reserved(pattern.text)]
        wild = [pattern for pattern in patterns if not pattern.exact]
        self._wild = wild
        self._tell_live_only(wild)
        if not any(True for _ in self._cursors):
            self._tell_wild()
        self._cursors.filler.resume()
        types = {cursor.event_type: None for cursor in self._cursors}
        types.update((pattern.text, None) for pattern in patterns if pattern.exact)
        asked = wild if len(wild) <= APART else [EVERYTHING]
        self._left = 1 + len(asked)
        history.tops(list(types), partial(self._tops, self._round, list(types)))
        for pattern in asked:
            history.known(pattern, partial(self._known, self._round, wild if pattern is EVERYTHING else [pattern]))

    # ---

    def _tell_live_only(self, wild: Iterable[Pattern]) -> None:
        """Types without history have lost what was published."""
        missing, self._cursors.missing = self._cursors.missing, set()
        if not self._keeps_all or len(missing) > LIVE_ONLY:
            for pattern in wild:
                self._arrivals.gap_under(pattern)
        for event_type in sorted(missing):
            if self._hub.wanted(event_type) and self._cursors.get(event_type) is None:
                self._cursors.outlet.gap(event_type, None)

    def _tops(self, number: int, types: Collection[str], tops: dict[str, Position] | NexusError) -> None:
        if number != self._round or isinstance(tops, NexusError):
            if number == self._round and self._bus.available:
                self._round += 1
                self._give_up()
                self._done()
            return
        for event_type in types:
            self._check(event_type, tops.get(event_type))
        self._answered()

    def _check(self, event_type: str, top: Position | None) -> None:
        cursor = self._cursors.get(event_type)
        if top is None:
            if cursor is not None:
                self._cursors.drop(cursor)
            if self._hub.wanted(event_type):
                self._cursors.outlet.gap(event_type, None)
        elif cursor is None:
            if self._hub.wanted(event_type):
                self._cursors.place(event_type, top)
                self._cursors.outlet.gap(event_type, top)
        else:
            fresh = self._is_fresh(event_type)
            cursor.lost = None  # what was told before was told to others
            # One that is ahead may have seen events which this Redis has lost; or they came before this answer.
            if cursor.position != top or cursor.filling:
                renewed = top.epoch if cursor.epoch != top.epoch else ""
                self._left += 1
                self._cursors.filler.fill(cursor, partial(self._filled, self._round, cursor, renewed, fresh))
            elif fresh:
                self._cursors.outlet.complete(cursor)

    def _filled(self, number: int, cursor: Cursor, renewed: str, fresh: bool) -> None:
        if number != self._round:
            return
        if renewed and cursor.lost is not None and cursor.lost.epoch == renewed:
            self._tell_wild()  # whole types may have come and gone
        if fresh:
            self._cursors.outlet.complete(cursor)
        self._answered()

    def _tell_wild(self) -> None:
        """Events of types that nobody here knows may have been lost."""
        wild, self._wild = self._wild, []
        for pattern in wild:
            self._arrivals.gap_under(pattern)

    def _known(self, number: int, patterns: Collection[Pattern], known: dict[str, Position] | NexusError) -> None:
        if number != self._round:
            return
        if isinstance(known, NexusError):
            if not self._bus.available:
                return
            for pattern in patterns:  # nobody can say of which types
                self._arrivals.gap_under(pattern)
            known = {}
        for event_type, top in known.items():
            if self._cursors.get(event_type) is None and self._hub.wanted(event_type):
                epoch = NO_EPOCH if self._is_fresh(event_type) else self._cursors.beginning(top.epoch)
                if epoch == NO_EPOCH:
                    self._cursors.place(event_type, top)
                    self._cursors.outlet.gap(event_type, top)
                else:
                    cursor = self._cursors.place(event_type, Position(epoch, 0))
                    self._left += 1
                    self._cursors.filler.fill(cursor, partial(self._filled, self._round, cursor, "", False))
        self._answered()

    def _answered(self) -> None:
        self._left -= 1
        if not self._left:
            self._cursors.witnesses = None
            self._fresh = set()
            self._done()

    def _give_up(self) -> None:
        """Nobody can say what was missed."""
        self._cursors.clear()
        self._cursors.witnesses = None
        self._arrivals.gap_anywhere()

    def _is_fresh(self, event_type: str) -> bool:
        """Return whether somebody subscribed to this type while the bus was away, and so does not know its position."""
        return bool(self._fresh) and any(pattern.text in self._fresh for pattern in self._hub.interested(event_type))
