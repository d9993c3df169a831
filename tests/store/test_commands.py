"""The ledger of commands in SQLite: a day of commands makes none of its statements slower."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nexus_tw.store.sqlite import commands
from nexus_tw.store.sqlite.schema import migrate

KEY = "(realm=? AND id=?)"
PLACE = "USING INTEGER PRIMARY KEY (rowid=?)"


@pytest.mark.parametrize(
    ("statement", "parameters", "search"),
    [
        (commands._FIND, ("nexus", "[]"), KEY),
        (commands._WRITE, ("nexus", "[]"), KEY),
        (commands._WRITE, ("nexus", "[]"), PLACE),
        (commands._FORGET, ("nexus", "[]"), KEY),
        (commands._HAND_ON, ("node", "nexus", "[]"), KEY),
        (commands._OLDEST, ("nexus",), "(realm=? AND ended>?)"),
        (commands._OLDEST_OF, ("nexus", '"account"'), "(realm=? AND account=? AND ended>?)"),
        (commands._OPEN, ("nexus", "node", None, None, 1), "USING INDEX commands_open (realm=?)"),
        (commands._PAST, (0, 1), PLACE),
    ],
)
def test_commands_are_looked_up_and_never_gone_through(
    tmp_path: Path, statement: str, parameters: tuple[object, ...], search: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "nexus.db", isolation_level=None)) as connection:
        migrate(connection)
        steps = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert any(search in step for step in steps), steps
    gone_through = [step for step in steps if step.endswith("(realm=?)") and "commands_open" not in step]
    assert not gone_through, steps
