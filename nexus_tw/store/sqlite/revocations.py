"""Revocations, each a record under a key."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from nexus_tw.store.sqlite.schema import roll_back


def revoke(connection: sqlite3.Connection, key: str, record: bytes) -> None:
    """Keep a record."""
    connection.execute("INSERT OR REPLACE INTO revocations (key, record) VALUES (?, ?)", (key.encode(), record))


def unrevoke(connection: sqlite3.Connection, keys: Sequence[str]) -> None:
    """Remove records."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("DELETE FROM revocations WHERE key = ?", [(key.encode(),) for key in keys])
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def read_revoked(connection: sqlite3.Connection) -> list[bytes]:
    """Return all records."""
    return [record for (record,) in connection.execute("SELECT record FROM revocations")]
