"""The ledger of commands in memory, for the nodes of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from zope.interface import implementer

from nexus_tw.interfaces.ledger import Entry, ILedger, Mark, Write
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics

DAY: Final = 86400.0  # seconds for which an ended command is kept
MAX_COMMANDS: Final = 100_000
MAX_BYTES: Final = 268_435_456  # of heads, marks and ends


def full() -> NexusError:
    """Return the error for a command that has no room beside the open ones."""
    return NexusError("limit_exceeded", "There are too many commands that have not ended")


class _Kept:
    """One command; times are by the ledger's clock."""

    __slots__ = ("began", "command_id", "final", "head", "marks", "node", "size", "until")

    def __init__(self, entry: Entry, now: float) -> None:
        self.command_id = entry.command_id
        self.node = entry.node
        self.head = entry.head
        self.marks = {place: (mark.body, now - mark.age) for place, mark in entry.marks.items()}
        self.final = b""
        self.began = now - entry.age
        self.size = len(entry.head) + sum(len(mark.body) for mark in entry.marks.values())
        self.until = 0.0

    def entry(self, now: float) -> Entry:
        marks = {place: Mark(body, now - at) for place, (body, at) in self.marks.items()}
        return Entry(self.command_id, self.node, self.head, marks, self.final, now - self.began)


class Ledger:
    """What the nodes share. Ages are by `monotonic`, which nobody can set."""

    def __init__(
        self,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
        most: int = MAX_COMMANDS,
        size: int = MAX_BYTES,
    ) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._most = most
        self._size = size
        self._open: dict[str, _Kept] = {}
        self._ended: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def take(self, entry: Entry, former: str) -> Entry | NexusError | None:
        now = self._monotonic()
        self._forget_old(now)
        there = self._open.get(entry.command_id)
        if there is None:
            ended = self._ended.get(entry.command_id)
            if ended is not None:
                return ended.entry(now)
        elif there.node not in (entry.node, former):
            return there.entry(now)
        kept = _Kept(entry, now)
        if there is None and not self._make_room(kept.size):
            return full()
        self._count(kept.size - (0 if there is None else there.size), there is None)
        self._open[entry.command_id] = kept
        return None

    def write(self, write: Write) -> bool | None:
        now = self._monotonic()
        kept = self._open.get(write.command_id)
        if kept is None:
            ended = self._ended.get(write.command_id)
            return None if ended is None else ended.node == write.node
        if kept.node != write.node:
            return False
        before = kept.size
        for place, body in write.marks.items():
            kept.size += len(body) - len(kept.marks[place][0] if place in kept.marks else b"")
            kept.marks[place] = body, now
        if write.final:
            kept.final = write.final
            kept.size += len(write.final)
            kept.until = now + DAY
            del self._open[write.command_id]
            self._ended[write.command_id] = kept
        self._count(kept.size - before, False)
        self._make_room(0)
        return True

    def drop(self, command_id: str, node: str) -> None:
        kept = self._open.get(command_id)
        if kept is not None and kept.node == node:
            del self._open[command_id]
            self._gone(kept)

    def find(self, command_id: str) -> Entry | None:
        now = self._monotonic()
        self._forget_old(now)
        kept = self._open.get(command_id) or self._ended.get(command_id)
        return None if kept is None else kept.entry(now)

    def inherit(self, left: str | None, node: str, most: int) -> list[Entry]:
        now = self._monotonic()
        found = []
        for kept in self._open.values():
            if kept.node != node and left in (None, kept.node):
                kept.node = node
                found.append(kept.entry(now))
                if len(found) >= most:
                    break
        return found

    # ---

    def _make_room(self, size: int) -> bool:
        """Forget the oldest ended commands as far as necessary. Return whether there is room for one more of this size."""
        more = bool(size)
        while len(self._open) + len(self._ended) + more > self._most or self._bytes + size > self._size:
            if not self._ended:
                return False
            self._gone(self._ended.popitem(last=False)[1])
            self._metrics.ledger_evicted += 1
        return True

    def _forget_old(self, now: float) -> None:
        while self._ended and next(iter(self._ended.values())).until <= now:
            self._gone(self._ended.popitem(last=False)[1])

    def _count(self, size: int, one: bool) -> None:
        self._bytes += size
        self._metrics.ledger_bytes += size
        self._metrics.ledger_commands += one

    def _gone(self, kept: _Kept) -> None:
        self._bytes -= kept.size
        self._metrics.ledger_bytes -= kept.size
        self._metrics.ledger_commands -= 1


@implementer(ILedger)
class MemoryLedger:
    """Answers one node."""

    lasting = False
    tells = False

    def __init__(self, ledger: Ledger, available: Callable[[], bool]) -> None:
        """`available` says whether the node's bus is."""
        self._ledger = ledger
        self._available = available

    def take(self, entry: Entry, former: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        done(self._ledger.take(entry, former) if self._available() else _away())

    def write(self, write: Write, done: Callable[[bool | NexusError | None], None]) -> None:
        done(self._ledger.write(write) if self._available() else _away())

    def drop(self, command_id: str, node: str, done: Callable[[NexusError | None], None]) -> None:
        if self._available():
            self._ledger.drop(command_id, node)
            done(None)
        else:
            done(_away())

    def find(self, command_id: str, done: Callable[[Entry | NexusError | None], None]) -> None:
        done(self._ledger.find(command_id) if self._available() else _away())

    def inherit(
        self, left: str | None, node: str, most: int, done: Callable[[list[Entry] | NexusError], None]
    ) -> None:
        done(self._ledger.inherit(left, node, most) if self._available() else _away())


def _away() -> NexusError:
    return NexusError("bus_unavailable", "The event bus is away")
