"""The audit trail of commands: a line for each state, in order."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from nexus_tw.interfaces.ledger import AuditLine

_NOTE: Final = """
    INSERT INTO audit (realm, command, at, line)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
    FROM json_each(?)
"""
_TRAIL: Final = "SELECT at, line FROM audit WHERE realm = ? AND command = ? ORDER BY id LIMIT ?"
# Lines come in the order of time, but for steps of the clock: a line behind younger ones goes with these.
_PRUNE: Final = "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?) AND at < ?"

PRUNE_ROWS: Final = 5000  # removed at once


def note(connection: sqlite3.Connection, lines: Sequence[AuditLine]) -> None:
    """Add lines to the trail."""
    # JSON: SQLite's own functions end a text at its first NUL.
    rows = [(line.realm, _text(line.command_id), line.at, line.line.decode()) for line in lines]
    connection.execute(_NOTE, (_text(rows),))


def trail(connection: sqlite3.Connection, realm: str, command_id: str, most: int) -> list[AuditLine]:
    """Return the first lines about a command."""
    rows = connection.execute(_TRAIL, (realm, _text(command_id), most)).fetchall()
    return [AuditLine(realm, command_id, at, line.encode()) for at, line in rows]


def prune(connection: sqlite3.Connection, before: int) -> bool:
    """Remove lines from before this time (ms). Return whether there may be more."""
    return connection.execute(_PRUNE, (PRUNE_ROWS, before)).rowcount == PRUNE_ROWS


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
