"""Where samples of telemetry wait until the server has stored them: a SQLite file, or memory.

All methods block and may be called from any thread, one at a time.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from nexus_client.core.options import Sample

SAMPLES: Final = 100_000
BYTES: Final = 64 * 1024 * 1024

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS samples (
    place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, agent TEXT NOT NULL, timestamp TEXT NOT NULL,
    metrics BLOB NOT NULL, size INTEGER NOT NULL
)
"""
_NEXT: Final = "SELECT place, id, agent, timestamp, metrics FROM samples WHERE place > ? ORDER BY place LIMIT ?"
_REMOVE: Final = "DELETE FROM samples WHERE id IN (SELECT value FROM json_each(?)) RETURNING size"
_SIZE: Final = 64  # bytes of a row beside its texts


class Spool:
    """A queue of samples, bounded by their number and size; the oldest are dropped.

    With a `path` it survives the process and a power failure: what `add` returned from is on disk. A file belongs to one client
    at a time; a second one that opens it gets `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, samples: int = SAMPLES, size: int = BYTES) -> None:
        if samples < 1 or size < 1:
            raise ValueError("samples and size: expected at least 1")
        self._path = None if path is None else os.fspath(path)
        self._most = samples
        self._most_bytes = size
        self._database: sqlite3.Connection | None = None
        self._given = 0  # the place of the last sample that `next` returned
        self._count = 0
        self._bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._count

    @property
    def in_memory(self) -> bool:
        """Whether its methods need no disk."""
        return self._path is None

    def open(self) -> None:
        """Open the file. Raise `OSError` if that is not possible; the text names the path and the reason."""
        try:
            database = sqlite3.connect(self._path or ":memory:", isolation_level=None, check_same_thread=False, timeout=0.2)
            try:
                # In this mode the first write takes a lock that lasts until `close`.
                database.execute("PRAGMA locking_mode=EXCLUSIVE")
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=FULL")
                database.execute("BEGIN IMMEDIATE")
                database.execute(_TABLE)
                database.execute("COMMIT")
                self._count, self._bytes = database.execute("SELECT count(*), coalesce(sum(size), 0) FROM samples").fetchone()
            except BaseException:
                database.close()
                raise
        except sqlite3.Error as error:
            raise OSError(f"the spool {self._path or 'in memory'} cannot be opened: {error}") from None
        self._database = database
        self._given = 0

    def close(self) -> None:
        """Close the file; samples in memory are gone."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def add(self, samples: Sequence[Sample]) -> list[str]:
        """Add samples at the end, durably, and return the ids of those that were dropped for them, oldest first.

        Raise `OSError` if they cannot be written; then none of them is there.
        """
        rows = [(s.id, s.agent, s.timestamp, s.metrics, len(s.id) + len(s.agent) + len(s.metrics) + _SIZE) for s in samples]
        dropped: list[tuple[int, str, int]] = []
        with _Transaction(self._open()) as database:
            database.executemany("INSERT INTO samples (id, agent, timestamp, metrics, size) VALUES (?, ?, ?, ?, ?)", rows)
            count, size = self._count + len(rows), self._bytes + sum(row[4] for row in rows)
            if count > self._most or size > self._most_bytes:
                for place, name, length in database.execute("SELECT place, id, size FROM samples ORDER BY place"):
                    if count <= self._most and size <= self._most_bytes:
                        break
                    dropped.append((place, name, length))
                    count, size = count - 1, size - length
                database.executemany("DELETE FROM samples WHERE place = ?", [(place,) for place, _, _ in dropped])
        self._count, self._bytes = count, size
        self.dropped += len(dropped)
        return [name for _, name, _ in dropped]

    def next(self, limit: int) -> list[Sample]:
        """Return the oldest samples that were not returned before, at most `limit`; a spool that was opened begins anew."""
        rows = self._open().execute(_NEXT, (self._given, limit)).fetchall()
        if rows:
            self._given = rows[-1][0]
        return [Sample(*row[1:]) for row in rows]

    def remove(self, ids: Iterable[str]) -> None:
        """Remove samples; unknown ids are ignored."""
        count, size = self._count, self._bytes
        with _Transaction(self._open()) as database:
            for (length,) in database.execute(_REMOVE, (json.dumps(list(ids)),)).fetchall():
                count, size = count - 1, size - length
        self._count, self._bytes = count, size

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise OSError("the spool is not open")
        return self._database


class _Transaction:
    """All of it or nothing; errors of SQLite become `OSError`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise _unwritten(error) from None
        return self._database

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        try:
            self._database.execute("COMMIT" if kind is None else "ROLLBACK")
        except sqlite3.Error as failure:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise _unwritten(failure) from None
        if isinstance(error, sqlite3.Error):
            raise _unwritten(error) from None


def _unwritten(error: sqlite3.Error) -> OSError:
    return OSError(f"the spool cannot be written: {error}")
