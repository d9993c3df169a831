"""Samples: inserted by few statements, read as one JSON text, removed when they are old."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from nexus_tw.interfaces.plugins import Sample
from nexus_tw.store.sqlite.schema import roll_back

PRUNE_ROWS: Final = 5000  # removed in one transaction: some 20 ms, for which a commit may have to wait
PRUNE_AGENTS: Final = 1000  # looked at in one transaction
KNOWN_AGENTS: Final = 65536  # names whose id is remembered

_ADD_AGENTS: Final = "INSERT OR IGNORE INTO agents (name) SELECT value FROM json_each(?)"
_FIND_AGENTS: Final = "SELECT json_group_object(name, id) FROM agents WHERE name IN (SELECT value FROM json_each(?))"
# One statement for many rows: see above. A few sizes, so that each stays prepared.
_ADD_SAMPLES: Final = {
    rows: f"INSERT INTO samples (agent, timestamp, metrics) VALUES {', '.join(['(?, ?, ?)'] * rows)}"  # noqa: S608
    for rows in (1024, 256, 64, 16, 4, 2, 1)
}
_ADD_WITH_IDS: Final = {
    rows: f"INSERT INTO samples (agent, timestamp, metrics, sent_id) VALUES {', '.join(['(?, ?, ?, ?)'] * rows)}"  # noqa: S608
    for rows in _ADD_SAMPLES
}
# CROSS: looks up each id, whatever the planner believes about sizes.
_FIND_STORED: Final = """
    SELECT json_group_array(given.key) FROM json_each(?) AS given CROSS JOIN samples
    ON samples.agent = json_extract(given.value, '$[0]') AND samples.sent_id = json_extract(given.value, '$[1]')
"""
# A lone sample of a known agent, the usual case on a server that keeps up.
_ADD_SAMPLE: Final = "INSERT INTO samples (agent, timestamp, metrics) SELECT id, ?, ? FROM agents WHERE name = ?"
_READ: Final = """
    SELECT json_group_array(json_array(timestamp, id, metrics)) FROM (
        SELECT timestamp, id, metrics FROM samples
        WHERE agent = (SELECT id FROM agents WHERE name = ?) AND timestamp >= ? AND timestamp < ?
        ORDER BY timestamp, id LIMIT ?)
"""
_PAGE: Final = "SELECT max(id) FROM (SELECT id FROM agents WHERE id > ? ORDER BY id LIMIT ?)"
# By agent, like the index; an additional index by time would slow down every insert.
_PRUNE_SAMPLES: Final = """
    DELETE FROM samples WHERE id IN (
        SELECT samples.id FROM agents CROSS JOIN samples ON samples.agent = agents.id AND samples.timestamp < ?
        WHERE agents.id > ? AND agents.id <= ? LIMIT ?)
"""
_PRUNE_AGENTS: Final = """
    DELETE FROM agents WHERE id > ? AND id <= ? AND NOT EXISTS (SELECT 1 FROM samples WHERE samples.agent = agents.id)
"""

_Ids: Final = msgspec.json.Decoder(dict[str, int])
_Indexes: Final = msgspec.json.Decoder(list[int])
_Rows: Final = msgspec.json.Decoder(list[tuple[int, int, str]])


class Agents:
    """The ids of agents, cached for a connection.

    They are valid until another process writes to the file (see `PRAGMA data_version`), which may have removed a name.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._connection: sqlite3.Connection | None = None
        self._version = 0

    def forget(self) -> None:
        self._ids.clear()

    def ids(self, connection: sqlite3.Connection, names: set[str]) -> dict[str, int]:
        """Return the ids of at least these names, created if missing; inside a transaction that holds the write lock."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version or connection is not self._connection or len(self._ids) > KNOWN_AGENTS:
            self.forget()
            self._version = version
            self._connection = connection
        unknown = [name for name in names if name not in self._ids]  # `names - keys` would go through all the keys
        if unknown:
            text = msgspec.json.encode(unknown).decode()
            connection.execute(_ADD_AGENTS, (text,))
            (found,) = connection.execute(_FIND_AGENTS, (text,)).fetchone()
            self._ids.update(_Ids.decode(found))
        return self._ids


def insert(connection: sqlite3.Connection, samples: Sequence[Sample], agents: Agents) -> None:
    """Insert all samples in one transaction, or none."""
    if len(samples) == 1 and _insert_one(connection, samples[0]):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        ids = agents.ids(connection, {sample.agent_id for sample in samples})
        rows = [(ids[agent_id], timestamp, metrics.decode()) for agent_id, timestamp, metrics in samples]
        _add(connection, _ADD_SAMPLES, rows)
        connection.execute("COMMIT")
    except BaseException:
        agents.forget()  # those created in it do not exist
        roll_back(connection)
        raise


def insert_once(
    connection: sqlite3.Connection, samples: Sequence[Sample], sent_ids: Sequence[str | None], agents: Agents
) -> list[int]:
    """Insert all samples whose id is new for their agent in one transaction, or none. Return the indexes of the others."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        ids = agents.ids(connection, {sample.agent_id for sample in samples})
        keys = [(ids[sample.agent_id], sent_id) for sample, sent_id in zip(samples, sent_ids, strict=True)]
        (found,) = connection.execute(_FIND_STORED, (msgspec.json.encode(keys).decode(),)).fetchone()
        repeated = set(_Indexes.decode(found))
        seen: set[tuple[int, str | None]] = set()
        rows = []
        for index, (key, (_, timestamp, metrics)) in enumerate(zip(keys, samples, strict=True)):
            if index in repeated or key in seen:
                repeated.add(index)
                continue
            agent, sent_id = key
            if sent_id is not None:
                seen.add(key)
            rows.append((agent, timestamp, metrics.decode(), sent_id))
        _add(connection, _ADD_WITH_IDS, rows)
        connection.execute("COMMIT")
    except BaseException:
        agents.forget()  # those created in it do not exist
        roll_back(connection)
        raise
    return sorted(repeated)


def _add(connection: sqlite3.Connection, statements: dict[int, str], rows: Sequence[tuple[Any, ...]]) -> None:
    start = 0
    for size, statement in statements.items():
        while len(rows) - start >= size:
            connection.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
            start += size


def _insert_one(connection: sqlite3.Connection, sample: Sample) -> bool:
    """Run one statement, a transaction by itself. Return false, with nothing changed, if the agent is unknown."""
    agent_id, timestamp, metrics = sample
    return connection.execute(_ADD_SAMPLE, (timestamp, metrics.decode(), agent_id)).rowcount == 1


def read(connection: sqlite3.Connection, agent_id: str, since: int, until: int, limit: int) -> list[Sample]:
    """Return the samples of an agent in a time range, oldest first."""
    (text,) = connection.execute(_READ, (agent_id, since, until, limit)).fetchone()
    rows = _Rows.decode(text)
    rows.sort()  # the order of an aggregate's input is not promised
    return [Sample(agent_id, timestamp, metrics.encode()) for timestamp, _, metrics in rows]


def prune(connection: sqlite3.Connection, before: int, seen: int, agents: Agents) -> tuple[int, int | None]:
    """Run one step. Return how many samples were removed, and the last agent that is done (None: all are)."""
    (last,) = connection.execute(_PAGE, (seen, PRUNE_AGENTS)).fetchone()
    if last is None:
        return 0, None
    removed = connection.execute(_PRUNE_SAMPLES, (before, seen, last, PRUNE_ROWS)).rowcount
    if removed == PRUNE_ROWS:
        return removed, seen
    # Names must not accumulate either.
    agents.forget()
    connection.execute(_PRUNE_AGENTS, (seen, last))
    return removed, last
