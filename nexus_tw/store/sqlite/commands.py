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
from typing import Any, Final, TypeVar

import msgspec

from nexus_tw.interfaces.ledger import Drop, Entry, Mark, Operation, Take, Write, id_of
from nexus_tw.model.errors import NexusError
from nexus_tw.store.sqlite.schema import roll_back

DAY: Final = 86_400_000  # ms for which an ended command is kept
MAX_COMMANDS: Final = 100_000  # of one realm; beyond these bounds the oldest ended ones are removed
MAX_BYTES: Final = 268_435_456
PRUNE_EVERY: Final = 4096  # commands that are taken between two looks at the bounds
PRUNE_ROWS: Final = 2000  # removed at once

_FIND: Final = """
    SELECT json_group_array(json_array(id, node, head, marks, final, began, boot, steady)) FROM commands
    WHERE realm = ? AND id IN (SELECT value FROM json_each(?))
"""
_TAKE: Final = """
    INSERT OR REPLACE INTO commands (realm, id, node, head, marks, began, boot, steady, size)
    SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
        json_extract(value, '$[3]'), json_extract(value, '$[4]'), ?, json_extract(value, '$[5]'), json_extract(value, '$[6]')
    FROM json_each(?)
"""
_WRITE: Final = """
    UPDATE commands SET marks = json_patch(marks, said), final = ending, ended = ended_at, size = size + more
    FROM (
        SELECT json_extract(value, '$[0]') AS of, json_extract(value, '$[1]') AS said, json_extract(value, '$[2]') AS ending,
            json_extract(value, '$[3]') AS ended_at, json_extract(value, '$[4]') AS more
        FROM json_each(?)
    )
    WHERE realm = ? AND commands.id = of
"""
_DROP: Final = "DELETE FROM commands WHERE realm = ? AND id IN (SELECT value FROM json_each(?))"
_OPEN: Final = """
    SELECT id FROM commands WHERE realm = ? AND ended IS NULL AND node <> ? AND (? IS NULL OR node = ?) ORDER BY began LIMIT ?
"""
_HAND_ON: Final = "UPDATE commands SET node = ? WHERE realm = ? AND id IN (SELECT value FROM json_each(?))"
_TOTAL: Final = "SELECT count(*), coalesce(sum(size), 0) FROM commands WHERE realm = ?"
_OLD: Final = """
    DELETE FROM commands WHERE rowid IN (
        SELECT rowid FROM commands WHERE realm = ? AND ended IS NOT NULL AND ended < ? ORDER BY ended LIMIT ?)
"""
_PAST: Final = "DELETE FROM commands WHERE ended IS NOT NULL AND ended < ?"
_OLDEST: Final = """
    DELETE FROM commands WHERE rowid IN (
        SELECT rowid FROM commands WHERE realm = ? AND ended IS NOT NULL ORDER BY ended LIMIT ?)
"""

_Row = tuple[str, str, str, str, str | None, int, str, int]
_rows: Final = msgspec.json.Decoder(list[_Row]).decode
_marks: Final = msgspec.json.Decoder(dict[str, tuple[int, str]]).decode

Answer = Entry | bool | NexusError | None

T = TypeVar("T")


def _boot() -> str:
    """Return what tells this run of the system from others; a name of this process where the system has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"process {time.time_ns()}"


class Commands:
    """Commands in the database. Used in the thread of its connection only."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic, boot: str | None = None
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._boot = _boot() if boot is None else boot
        self._taken = PRUNE_EVERY  # since the bounds were looked at

    def record(self, connection: sqlite3.Connection, realm: str, operations: Sequence[Operation]) -> list[Answer]:
        """Carry out operations on different commands. Return the answer to each (`nexus_tw.interfaces.ledger.ILedger`)."""
        return self._committed(connection, lambda: self._record(connection, realm, operations))

    def inherit(
        self, connection: sqlite3.Connection, realm: str, left: str | None, node: str, most: int
    ) -> list[Entry]:
        """Give open commands of the node `left`, or of any other, to `node`."""

        def work() -> list[Entry]:
            ids = [id_ for (id_,) in connection.execute(_OPEN, (realm, node, left, left, most)).fetchall()]
            text = _text(ids)
            connection.execute(_HAND_ON, (node, realm, text))
            found = self._find(connection, realm, text)
            return [found[id_] for id_ in ids]

        return self._committed(connection, work)

    def prune(self, connection: sqlite3.Connection) -> None:
        """Remove commands that ended more than a day ago."""
        connection.execute(_PAST, (int(self._wall() * 1000) - DAY,))

    # ---

    def _committed(self, connection: sqlite3.Connection, work: Callable[[], T]) -> T:
        """Do the work in a transaction that survives the process. One that must survive a power failure follows with the
        next sample."""
        connection.execute("PRAGMA synchronous=NORMAL")
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = work()
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise
        finally:
            connection.execute("PRAGMA synchronous=FULL")
        return result

    def _record(self, connection: sqlite3.Connection, realm: str, operations: Sequence[Operation]) -> list[Answer]:
        there = self._find(connection, realm, _text([_key(id_of(operation)) for operation in operations]))
        now, steady = int(self._wall() * 1000), int(self._steady() * 1000)
        answers: list[Answer] = []
        taken, written, dropped = [], [], []
        for operation in operations:
            key = _key(id_of(operation))
            known = there.get(key)
            answer: Answer = None
            if isinstance(operation, Take):
                entry = operation.entry
                if known is not None and (known.final or known.node not in (entry.node, operation.former)):
                    answer = known
                else:
                    marks = {place: (steady, mark.body.decode()) for place, mark in entry.marks.items()}
                    age, text = int(entry.age * 1000), _text(marks)
                    size = len(entry.head) + len(text)
                    taken.append((key, entry.node, entry.head.decode(), text, now - age, steady - age, size))
            elif isinstance(operation, Write):
                if known is not None:
                    answer = known.node == operation.node
                    if answer and not known.final:
                        text = _text({place: (steady, body.decode()) for place, body in operation.marks.items()})
                        final = operation.final.decode() or None
                        size = len(text) + len(operation.final)
                        written.append((key, text, final, now if final else None, size))
            elif isinstance(operation, Drop):
                if known is not None and known.node == operation.node and not known.final:
                    dropped.append(key)
            else:
                answer = known
            answers.append(answer)
        if taken:
            connection.execute(_TAKE, (realm, self._boot, _text(taken)))
            self._taken += len(taken)
        if written:
            connection.execute(_WRITE, (_text(written), realm))
        if dropped:
            connection.execute(_DROP, (realm, _text(dropped)))
        if self._taken >= PRUNE_EVERY:
            self._prune(connection, realm, now)
        return answers

    def _prune(self, connection: sqlite3.Connection, realm: str, now: int) -> None:
        removed = connection.execute(_OLD, (realm, now - DAY, PRUNE_ROWS)).rowcount
        count, size = connection.execute(_TOTAL, (realm,)).fetchone()
        over = max(count - MAX_COMMANDS, int(count * (1 - MAX_BYTES / size)) if size > MAX_BYTES else 0)
        if over > 0:
            removed += connection.execute(_OLDEST, (realm, min(over, PRUNE_ROWS))).rowcount
        if removed < PRUNE_ROWS:
            self._taken = 0

    def _find(self, connection: sqlite3.Connection, realm: str, ids: str) -> dict[str, Entry]:
        (text,) = connection.execute(_FIND, (realm, ids)).fetchone()
        wall, steady = int(self._wall() * 1000), int(self._steady() * 1000)
        found = {}
        for key, node, head, marks, final, began, boot, began_steady in _rows(text):
            # What has passed since a mark is known only as long as the system runs; after that, since it began.
            same = boot == self._boot
            age = steady - began_steady if same else wall - began
            told = {
                int(place): Mark(body.encode(), max(0, steady - at if same else age) / 1000)
                for place, (at, body) in _marks(marks).items()
            }
            name = msgspec.json.decode(key)
            found[key] = Entry(name, node, head.encode(), told, (final or "").encode(), max(0, age) / 1000)
        return found


def _key(command_id: str) -> str:
    # JSON: SQLite's own functions end a text at its first NUL.
    return msgspec.json.encode(command_id).decode()


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()

