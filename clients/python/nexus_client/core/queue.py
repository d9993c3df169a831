"""The bounded queue between a stream and its consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from nexus_client.events import Event, Gap

LIMIT: Final = 10_000


def before(position: str) -> str:
    """Return the position before this one."""
    epoch, _, offset = position.rpartition(":")
    return f"{epoch}:{int(offset) - 1}"


class Queue:
    """The items that were delivered to a stream and not taken yet.

    While it is full, new items are dropped; a `Gap` for each of their types follows the queued items. It is live again as
    soon as there is room.
    """

    __slots__ = ("_items", "_limit", "_lost", "dropped")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._items: deque[Event | Gap] = deque()
        self._lost: dict[str, Gap] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items) + len(self._lost)

    def put(self, item: Event | Gap) -> None:
        """Add an item, or drop it if there is no room."""
        if len(self._items) >= self._limit:
            self._drop(item)
            return
        if self._lost:
            self._tell()
        self._items.append(item)

    def take(self) -> Event | Gap | None:
        """Remove and return the oldest item; None if there is none."""
        if not self._items:
            self._tell()
        return self._items.popleft() if self._items else None

    def positions(self, delivered: Mapping[str, str]) -> dict[str, str]:
        """Return, by type, the position up to which the consumer has taken everything.

        `delivered` are the stream's positions in the core, `Core.positions`, which are ahead by what is queued here.
        """
        positions = dict(delivered)
        waiting: dict[str, str | None] = {}
        for item in (*self._items, *self._lost.values()):
            if type(item) is Gap:
                waiting.setdefault(item.type, item.since)
            elif item.position is not None:
                waiting.setdefault(item.type, before(item.position))
        for name, position in waiting.items():
            if position is None:
                positions.pop(name, None)
            else:
                positions[name] = position
        return positions

    def _drop(self, item: Event | Gap) -> None:
        self.dropped += 1
        lost = self._lost.get(item.type)
        if lost is not None:
            since = lost.since
        elif type(item) is Gap:
            since = item.since
        else:
            since = before(item.position) if item.position is not None else None
        self._lost[item.type] = Gap(item.type, "overflow", item.position, since)

    def _tell(self) -> None:
        self._items.extend(self._lost.values())
        self._lost.clear()
