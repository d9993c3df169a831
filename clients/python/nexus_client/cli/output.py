"""Results: tables and coloured lines for people, or one JSON object a line."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nexus_client.cli.words import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# A line for people: pieces of text, each with a style of rich ("" for none).
Pieces = Sequence[tuple[str, str]]


class Output:
    """Where a command writes. Results go to standard output, notes about their making to standard error."""

    def __init__(self, as_json: bool) -> None:
        self.json = as_json

    @cached_property
    def console(self) -> Console:
        """Standard output as rich sees it; colours only on a terminal, and not where NO_COLOR is set."""
        from rich.console import Console

        return Console(highlight=False, markup=False, emoji=False)

    @cached_property
    def notes(self) -> Console:
        """Standard error, likewise."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, markup=False, emoji=False)

    def record(self, record: Mapping[str, Any], *line: tuple[str, str]) -> None:
        """Write one result: `record` as JSON, or `line` for people (without one: its JSON)."""
        if self.json or not line:
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        else:
            self.console.print(text(line), soft_wrap=True)
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], empty: str = "") -> None:
        """Write rows: each as JSON, or all as one table. `columns` are the members shown; `empty` is said for no rows."""
        if self.json:
            for row in rows:
                self.record(row)
            return
        if not rows:
            self.note(empty)
            return
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(text([(_cell(row.get(column)), "")]) for column in columns))
        self.console.print(table, soft_wrap=not self.console.is_terminal)
        sys.stdout.flush()

    def note(self, message: str, style: str = "dim", **members: Any) -> None:
        """Tell on standard error how things go; with --json as an object of type `note`, or of the type among `members`."""
        if self.json:
            sys.stderr.write(json.dumps({"type": "note", "message": message} | members, ensure_ascii=False) + "\n")
            sys.stderr.flush()
        else:
            self.notes.print(text([(message, style)]), soft_wrap=True)


def text(pieces: Pieces) -> Text:
    """Return the pieces as one text of rich, whose styles come from us alone."""
    from rich.text import Text

    return Text.assemble(*((clean(piece), style) for piece, style in pieces))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
