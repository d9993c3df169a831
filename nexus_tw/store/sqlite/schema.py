"""The schema: migrations from one version to the next."""

from __future__ import annotations

import sqlite3
from typing import Final

from nexus_tw.model.errors import NexusError

# Entry n brings the schema from version n (`PRAGMA user_version`) to n + 1. Never changed once released.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        "CREATE TABLE agents (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        # Rows in order of arrival and a narrow index: a fleet then dirties few pages per commit. Clustered
        # by agent (WITHOUT ROWID), each agent's sample would dirty its own page; measured a third slower.
        """CREATE TABLE samples (
            id INTEGER PRIMARY KEY, agent INTEGER NOT NULL, timestamp INTEGER NOT NULL, metrics TEXT NOT NULL)""",
        "CREATE INDEX samples_by_agent ON samples (agent, timestamp)",
    ),
    (
        """CREATE TABLE tallies (
            began INTEGER NOT NULL, holder TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY (began, holder)) WITHOUT ROWID""",
    ),
    (
        # The id that the sender gave a sample. Partial: samples without one cost this index nothing.
        "ALTER TABLE samples ADD COLUMN sent_id TEXT",
        "CREATE UNIQUE INDEX samples_by_sent_id ON samples (agent, sent_id) WHERE sent_id IS NOT NULL",
    ),
    ("CREATE TABLE revocations (key BLOB PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID",),
    (
        # The ledger of commands; ids are JSON texts. `began` and `ended` are times of day, `steady` is by the clock of `boot`.
        """CREATE TABLE commands (
            realm TEXT NOT NULL, id TEXT NOT NULL, node TEXT NOT NULL, head TEXT NOT NULL, marks TEXT NOT NULL, final TEXT,
            began INTEGER NOT NULL, boot TEXT NOT NULL, steady INTEGER NOT NULL, ended INTEGER, size INTEGER NOT NULL,
            PRIMARY KEY (realm, id))""",
        "CREATE INDEX commands_open ON commands (realm, began) WHERE ended IS NULL",
        "CREATE INDEX commands_ended ON commands (realm, ended) WHERE ended IS NOT NULL",
        # What became of commands, for people.
        """CREATE TABLE audit (
            id INTEGER PRIMARY KEY, realm TEXT NOT NULL, command TEXT NOT NULL, at INTEGER NOT NULL, line TEXT NOT NULL)""",
        "CREATE INDEX audit_by_command ON audit (realm, command, id)",
    ),
    (
        # Under which account a command counts (a JSON text, as the ids). Of those from before it is not known.
        "ALTER TABLE commands ADD COLUMN account TEXT NOT NULL DEFAULT '\"\"'",
        "CREATE INDEX commands_ended_of ON commands (realm, account, ended) WHERE ended IS NOT NULL",
    ),
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to the current version. Raise `store_unavailable` if a newer server made it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            known = len(MIGRATIONS)
            raise NexusError("store_unavailable", f"it was made by a newer Nexus (schema {version}, known is {known})")
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        # Even if nothing is new: a read-only file is detected now and not by the first sample.
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: sqlite3.Connection) -> None:
    """End the transaction without its changes, if one is open."""
    # Some failures (a full disk among them) have ended the transaction themselves.
    if connection.in_transaction:
        connection.execute("ROLLBACK")
