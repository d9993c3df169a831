"""The ledger of commands in memory, for the nodes of one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from zope.interface import implementer

from nexus_tw.interfaces.ledger import Entry, ILedger, Mark, Write
from nexus_tw.model.errors import NexusError
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.room import DAY, Lack, Room, Taken


def given_up(node: str) -> NexusError:
    """Return the error for a command that a node takes which the others have given up, and does not know."""
    return NexusError("bus_unavailable", f"The other nodes have given {node} up: ask again")


class _Kept:
    """One command; times are by the ledger's clock."""

    __slots__ = ("account", "began", "command_id", "final", "head", "marks", "node", "size", "until")

    def __init__(self, entry: Entry, now: float) -> None:
        self.command_id = entry.command_id
        self.node = entry.node
        self.account = entry.account
        self.head = entry.head
        self.marks = {place: (mark.body, now - mark.age) for place, mark in entry.marks.items()}
        self.final = b""
        self.began = now - entry.age
        self.size = len(entry.head) + sum(len(mark.body) for mark in entry.marks.values())  # of all that was written
        self.until = 0.0

    def entry(self, now: float) -> Entry:
        marks = {place: Mark(body, now - at) for place, (body, at) in self.marks.items()}
        return Entry(self.command_id, self.node, self.head, marks, self.final, now - self.began, self.account)


class Ledger:
    """What the nodes share. Ages are by `monotonic`, which nobody can set."""

    def __init__(
        self,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
        room: Room | None = None,
    ) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._room = room or Room()
        self._buried: Collection[str] = ()
        self._open: dict[str, _Kept] = {}
        self._ended: OrderedDict[str, _Kept] = OrderedDict()
        self._ended_of: dict[str, OrderedDict[str, _Kept]] = {}  # by account
        self._all = Taken()
        self._taken: dict[str, Taken] = {}  # by account

    def heed(self, buried: Collection[str]) -> None:
        """Refuse what these nodes take: those that the others have given up, now and later."""
        self._buried = buried

    def take(self, entry: Entry, former: str) -> Entry | NexusError | None:
        now = self._monotonic()
        self._forget_old(now)
        there = self._open.get(entry.command_id)
        if there is None:
            ended = self._ended.get(entry.command_id)
            if ended is not None:
                return ended.entry(now)
        elif not former or there.node not in (entry.node, former):
            return there.entry(now)
        if entry.node in self._buried:
            return given_up(entry.node)
        kept = _Kept(entry, now)
        if there is not None:
            self._count(there, -1, -there.size)
        elif (lack := self._make_room(kept.account, 1, kept.size)) is not None:
            self._metrics.shares_refused["ledger"] += 1
            return self._room.bounds.refusal(lack)
        self._count(kept, 1, kept.size)
        self._open[entry.command_id] = kept
        return None

    def write(self, write: Write) -> bool | None:
        now = self._monotonic()
        self._forget_old(now)
        kept = self._open.get(write.command_id)
        if kept is None:
            ended = self._ended.get(write.command_id)
            return None if ended is None else ended.node == write.node
        if kept.node != write.node:
            return False
        size = len(write.final)
        for place, body in write.marks.items():
            size += len(body)
            kept.marks[place] = body, now
        kept.size += size
        self._count(kept, 0, size)
        if write.final:
            kept.final = write.final
            kept.until = now + DAY
            del self._open[write.command_id]
            self._ended[write.command_id] = kept
            self._ended_of.setdefault(kept.account, OrderedDict())[write.command_id] = kept
        self._make_room(kept.account, 0, 0)
        return True

    def drop(self, command_id: str, node: str) -> None:
        kept = self._open.get(command_id)
        if kept is not None and kept.node == node:
            del self._open[command_id]
            self._count(kept, -1, -kept.size)

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

    def _make_room(self, account: str, more: int, size: int) -> Lack | None:
        """Forget the oldest ended commands, as far as necessary for so many more commands of this size. Return the bound that
        leaves no room for them even so."""
        bounds, own = self._room.bounds, self._taken.setdefault(account, Taken())
        while (lack := bounds.lacks(self._all, own, more, size)) is not None:
            ended = self._ended_of.get(account) if lack.own else self._ended
            if not ended:
                break
            self._forget(next(iter(ended.values())))
            self._metrics.ledger_evicted += 1
        if not own.commands:
            self._taken.pop(account, None)
        return lack

    def _forget_old(self, now: float) -> None:
        while self._ended and (oldest := next(iter(self._ended.values()))).until <= now:
            self._forget(oldest)

    def _forget(self, kept: _Kept) -> None:
        """Remove an ended command."""
        del self._ended[kept.command_id]
        mine = self._ended_of[kept.account]
        del mine[kept.command_id]
        if not mine:
            del self._ended_of[kept.account]
        self._count(kept, -1, -kept.size)

    def _count(self, kept: _Kept, commands: int, size: int) -> None:
        own = self._taken.setdefault(kept.account, Taken())
        own.add(commands, size)
        if not own.commands:
            del self._taken[kept.account]
        self._all.add(commands, size)
        self._metrics.ledger_commands += commands
        self._metrics.ledger_bytes += size


@implementer(ILedger)
class MemoryLedger:
    """Answers one node."""

    lasting = False
    tells = notes = False

    epoch = ""

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
