"""The ledger of commands of a node whose bus keeps none: few statements for the operations of many commands.

Ages are measured with the system's monotonic clock as long as the system runs, so that setting the clock neither expires a
command nor keeps it; over a restart of the system, which begins that clock anew, with the time of day.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from nexus_tw.interfaces.ledger import AuditLine, Entry, Find, Mark, Operation, Recorded, Take, Write, events_of, id_of
from nexus_tw.model.room import DAY, Bounds, Lack, Taken
from nexus_tw.store.sqlite.audit import note
from nexus_tw.store.sqlite.schema import roll_back

FORGET: Final = 2000  # commands that ended a day ago, removed at once

_FIND: Final = """
    SELECT json_group_array(json_array(id, node, head, marks, final, began, boot, steady, account, size, ended))
    FROM commands WHERE realm = ? AND id IN (SELECT value FROM json_each(?))
"""
_TAKE: Final = """
    INSERT OR REPLACE INTO commands (realm, id, node, head, marks, began, boot, steady, size, account)
    SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
        json_extract(value, '$[3]'), json_extract(value, '$[4]'), ?, json_extract(value, '$[5]'), json_extract(value, '$[6]'),
        json_extract(value, '$[7]')
    FROM json_each(?)
"""
# By their row ids: with realm and id SQLite would go through all commands of the realm and look for each in the list, as it
# knows of neither how long it is.
_WRITE: Final = """
    UPDATE commands SET marks = json_patch(marks, said), final = ending, ended = ended_at, size = size + more
    FROM (
        SELECT (SELECT rowid FROM commands WHERE realm = ? AND id = json_extract(value, '$[0]')) AS place,
            json_extract(value, '$[1]') AS said, json_extract(value, '$[2]') AS ending,
            json_extract(value, '$[3]') AS ended_at, json_extract(value, '$[4]') AS more
        FROM json_each(?)
    )
    WHERE commands.rowid = place
"""
_OPEN: Final = """
    SELECT id FROM commands WHERE realm = ? AND ended IS NULL AND node <> ? AND (? IS NULL OR node = ?) ORDER BY began LIMIT ?
"""
_HAND_ON: Final = "UPDATE commands SET node = ? WHERE realm = ? AND id IN (SELECT value FROM json_each(?))"
_FORGET: Final = "DELETE FROM commands WHERE realm = ? AND id IN (SELECT value FROM json_each(?))"
_PAST: Final = """
    DELETE FROM commands WHERE rowid IN (SELECT rowid FROM commands WHERE ended IS NOT NULL AND ended <= ? LIMIT ?)
    RETURNING realm, account, size
"""
_OLDEST: Final = """
    DELETE FROM commands WHERE rowid IN (
        SELECT rowid FROM commands WHERE realm = ? AND ended IS NOT NULL ORDER BY ended LIMIT 1)
    RETURNING id, account, size, ended
"""
_OLDEST_OF: Final = """
    DELETE FROM commands WHERE rowid IN (
        SELECT rowid FROM commands WHERE realm = ? AND account = ? AND ended IS NOT NULL ORDER BY ended LIMIT 1)
    RETURNING id, account, size, ended
"""
_TAKEN: Final = "SELECT account, count(*), sum(size) FROM commands WHERE realm = ? GROUP BY account"

_Row = tuple[str, str, str, str, str | None, int, str, int, str, int, int | None]
_rows: Final = msgspec.json.Decoder(list[_Row]).decode
_marks: Final = msgspec.json.Decoder(dict[str, tuple[int, str]]).decode

Answer = Entry | bool | Lack | None

T = TypeVar("T")


def _boot() -> str:
    """Return what tells this run of the system from others; a name of this process where the system has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"process {time.time_ns()}"


class _Known(NamedTuple):
    """A command in the database."""

    entry: Entry
    account: str
    size: int
    past: bool  # it ended a day ago: it is forgotten, though not yet gone


class _Count:
    """What the commands of a realm take up. Read once, and counted from then on."""

    def __init__(self, connection: sqlite3.Connection, realm: str) -> None:
        self.all = Taken()
        self._own: dict[str, Taken] = {}
        for account, commands, size in connection.execute(_TAKEN, (realm,)).fetchall():
            self.add(account, commands, size)

    def of(self, account: str) -> Taken:
        return self._own.get(account) or Taken()

    def add(self, account: str, commands: int, size: int) -> None:
        own = self._own.setdefault(account, Taken())
        own.add(commands, size)
        if not own.commands:
            del self._own[account]
        self.all.add(commands, size)


class _Changes:
    """What is to be changed in the database, by one statement for each kind of change."""

    def __init__(self, connection: sqlite3.Connection, realm: str, boot: str) -> None:
        self._connection = connection
        self._realm = realm
        self._boot = boot
        self.taken: list[tuple[Any, ...]] = []
        self.written: list[tuple[Any, ...]] = []
        self.forgotten: list[str] = []

    def send(self) -> None:
        execute, realm = self._connection.execute, self._realm
        if self.forgotten:
            execute(_FORGET, (realm, _text(self.forgotten)))
        if self.taken:
            execute(_TAKE, (realm, self._boot, _text(self.taken)))
        if self.written:
            execute(_WRITE, (realm, _text(self.written)))
        for changes in (self.taken, self.written, self.forgotten):
            changes.clear()


class _Work:
    """Operations on different commands of a realm, in one transaction."""

    def __init__(
        self, connection: sqlite3.Connection, realm: str, there: dict[str, _Known], count: _Count, bounds: Bounds, times: _Times
    ) -> None:
        self._connection = connection
        self._realm = realm
        self._there = there
        self._count = count
        self._bounds = bounds
        self._times = times
        self._changes = _Changes(connection, realm, times.boot)
        self._evicted = 0

    def done(self, operations: Sequence[Operation]) -> Recorded:
        answers = [self._answer(operation) for operation in operations]
        self._changes.send()
        return Recorded(answers, self._evicted)

    def _answer(self, operation: Operation) -> Answer:
        key = _key(id_of(operation))
        known = self._there.get(key)
        if known is not None and known.past:
            self._forget(key, known)
            known = None
        if isinstance(operation, Take):
            return self._take(key, operation, known)
        if known is None:
            return None
        if isinstance(operation, Find):
            return known.entry
        mine = known.entry.node == operation.node
        if isinstance(operation, Write):
            if mine and not known.entry.final:
                self._write(key, operation, known)
            return mine
        if mine and not known.entry.final:
            self._forget(key, known)
        return None

    def _take(self, key: str, take: Take, known: _Known | None) -> Answer:
        entry, account, times = take.entry, _key(take.entry.account), self._times
        again = take.former and known is not None and known.entry.node in (entry.node, take.former)
        if known is not None and (known.entry.final or not again):
            return known.entry
        size = len(entry.head) + sum(len(mark.body) for mark in entry.marks.values())
        if known is not None:
            self._count.add(known.account, -1, -known.size)
        elif (lack := self._lack(account, 1, size)) is not None:
            return lack
        marks = _text({place: (times.steady, mark.body.decode()) for place, mark in entry.marks.items()})
        age = int(entry.age * 1000)
        row = key, entry.node, entry.head.decode(), marks, times.wall - age, times.steady - age, size, account
        self._changes.taken.append(row)
        self._count.add(account, 1, size)
        return None

    def _write(self, key: str, write: Write, known: _Known) -> None:
        marks = _text({place: (self._times.steady, body.decode()) for place, body in write.marks.items()})
        final = write.final.decode() or None
        size = len(write.final) + sum(len(body) for body in write.marks.values())
        self._changes.written.append((key, marks, final, self._times.wall if final else None, size))
        self._count.add(known.account, 0, size)
        self._lack(known.account, 0, 0)

    def _forget(self, key: str, known: _Known) -> None:
        self._changes.forgotten.append(key)
        self._count.add(known.account, -1, -known.size)

    def _lack(self, account: str, more: int, size: int) -> Lack | None:
        """Forget the oldest ended commands, as far as necessary for so many more commands of this size. Return the bound that
        leaves no room for them even so."""
        bounds, count, execute = self._bounds, self._count, self._connection.execute
        while (lack := bounds.lacks(count.all, count.of(account), more, size)) is not None:
            self._changes.send()
            arguments = (self._realm, account) if lack.own else (self._realm,)
            found = execute(_OLDEST_OF if lack.own else _OLDEST, arguments).fetchall()
            if not found:
                break
            ((id_, its_account, its_size, ended),) = found
            self._there.pop(id_, None)
            count.add(its_account, -1, -its_size)
            self._evicted += ended > self._times.day_ago
        return lack


class _Times(NamedTuple):
    """Now (ms): the time of day, and the time by the clock of this run of the system."""

    wall: int
    steady: int
    boot: str

    @property
    def day_ago(self) -> int:
        return self.wall - int(DAY * 1000)


class Commands:
    """Commands in the database. Used in the thread of its connection only."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic, boot: str | None = None
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._boot = _boot() if boot is None else boot
        self._counts: dict[str, _Count] = {}  # by realm

    def record(
        self, connection: sqlite3.Connection, realm: str, operations: Sequence[Operation], bounds: Bounds
    ) -> Recorded:
        """Carry out operations on different commands (`nexus_tw.interfaces.ledger.IKeepsCommands`)."""

        def work() -> Recorded:
            count = self._counts.get(realm)
            if count is None:
                count = self._counts[realm] = _Count(connection, realm)
            ids = _text([_key(id_of(operation)) for operation in operations])
            times = self._times()
            recorded = _Work(connection, realm, _find(connection, realm, ids, times), count, bounds, times).done(operations)
            noted = [
                AuditLine(realm, id_of(operation), times.wall, line)
                for operation, answer in zip(operations, recorded.answers, strict=True)
                if answer is None or answer is True
                for line in events_of(operation)
            ]
            if noted:
                note(connection, noted)
            return recorded

        return self._committed(connection, work)

    def inherit(
        self, connection: sqlite3.Connection, realm: str, left: str | None, node: str, most: int
    ) -> list[Entry]:
        """Give open commands of the node `left`, or of any other, to `node`."""

        def work() -> list[Entry]:
            ids = [id_ for (id_,) in connection.execute(_OPEN, (realm, node, left, left, most)).fetchall()]
            text = _text(ids)
            connection.execute(_HAND_ON, (node, realm, text))
            found = _find(connection, realm, text, self._times())
            return [found[id_].entry for id_ in ids]

        return self._committed(connection, work)

    def prune(self, connection: sqlite3.Connection) -> bool:
        """Remove commands that ended a day ago. Return whether there may be more of them."""

        def work() -> bool:
            gone = connection.execute(_PAST, (self._times().day_ago, FORGET)).fetchall()
            for realm, account, size in gone:
                if realm in self._counts:
                    self._counts[realm].add(account, -1, -size)
            return len(gone) >= FORGET

        return self._committed(connection, work)

    # ---

    def _times(self) -> _Times:
        return _Times(int(self._wall() * 1000), int(self._steady() * 1000), self._boot)

    def _committed(self, connection: sqlite3.Connection, work: Callable[[], T]) -> T:
        """Do the work in a transaction that survives the process. One that must survive a power failure follows with the
        next sample."""
        connection.execute("PRAGMA synchronous=NORMAL")
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work()
            connection.execute("COMMIT")
        except BaseException:
            self._counts.clear()  # as they are now they have counted what is not there
            roll_back(connection)
            raise
        finally:
            connection.execute("PRAGMA synchronous=FULL")
        return result


def _find(connection: sqlite3.Connection, realm: str, ids: str, times: _Times) -> dict[str, _Known]:
    (text,) = connection.execute(_FIND, (realm, ids)).fetchone()
    found = {}
    for key, node, head, marks, final, began, boot, began_steady, account, size, ended in _rows(text):
        # What has passed since a mark is known only as long as the system runs; after that, since it began.
        same = boot == times.boot
        age = times.steady - began_steady if same else times.wall - began
        told = {
            int(place): Mark(body.encode(), max(0, times.steady - at if same else age) / 1000)
            for place, (at, body) in _marks(marks).items()
        }
        name, whose = msgspec.json.decode(key), msgspec.json.decode(account)
        entry = Entry(name, node, head.encode(), told, (final or "").encode(), max(0, age) / 1000, whose)
        found[key] = _Known(entry, account, size, ended is not None and ended <= times.day_ago)
    return found


def _key(command_id: str) -> str:
    # JSON: SQLite's own functions end a text at its first NUL.
    return msgspec.json.encode(command_id).decode()


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()

