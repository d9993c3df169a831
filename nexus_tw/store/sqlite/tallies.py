"""Tallies: how much telemetry is kept of each holder."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from nexus_tw.interfaces.plugins import Tally

# `WHERE true`, as SQLite would otherwise parse the `ON` as that of a join.
_TALLY: Final = """
    INSERT INTO tallies (holder, began, size)
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?) WHERE true
    ON CONFLICT (began, holder) DO UPDATE SET size = size + excluded.size
"""
_TALLIES: Final = """
    SELECT json_group_array(json_array(holder, began, size)) FROM tallies WHERE began >= ? AND holder IN (
        SELECT holder FROM tallies WHERE began >= ? GROUP BY holder ORDER BY sum(size) DESC LIMIT ?)
"""
_PRUNE_TALLIES: Final = "DELETE FROM tallies WHERE began < ?"

_Tallies: Final = msgspec.json.Decoder(list[tuple[str, int, int]])


def tally(connection: sqlite3.Connection, tallies: Sequence[Tally]) -> None:
    """Add to the saved sizes."""
    # JSON inside JSON: SQLite's own functions end a text at its first NUL, which may occur between an issuer and a subject.
    rows = [(msgspec.json.encode(holder).decode(), began, size) for holder, began, size in tallies]
    connection.execute(_TALLY, (msgspec.json.encode(rows).decode(),))


def read_tallies(connection: sqlite3.Connection, since: int, most: int) -> list[Tally]:
    """Return the tallies since a time, of the holders with most bytes."""
    (text,) = connection.execute(_TALLIES, (since, since, most)).fetchone()
    return [Tally(msgspec.json.decode(holder), began, size) for holder, began, size in _Tallies.decode(text)]


def prune_tallies(connection: sqlite3.Connection, before: int) -> None:
    """Remove tallies that began before this time."""
    connection.execute(_PRUNE_TALLIES, (before,))
