"""Runs the field test, or a part of it, and prints its table as Markdown: `python -m tests.field [--help]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react

from tests.field import matrix, record
from tests.field.matrix import Cell
from tests.field.runner import AT_ONCE, run
from tests.field.table import markdown
from tests.field.wave import Outcome


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.field", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the cells that bin/test has; otherwise all")
    for name in ("client", "way", "life"):
        parser.add_argument(f"--{name}", default="*", metavar="NAMES", help="patterns, parted by |; otherwise all")
    parser.add_argument("--again", action="store_true", help=f"only those that have not passed yet, as {record.FILE} says")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help=f"lives at a time (default {AT_ONCE})")
    return parser.parse_args()


def wanted(asked: argparse.Namespace) -> Iterable[Cell]:
    cells = matrix.short() if asked.short else matrix.full()
    known = record.read() if asked.again else {}
    passed = {name for name, outcome in known.items() if not outcome.troubles}
    return [cell for cell in matrix.chosen(cells, asked.client, asked.way, asked.life) if str(cell) not in passed]


def report(outcomes: Mapping[Cell, Outcome], directory: Path) -> int:
    """Print all results and failures. Return the number of cells."""
    print(markdown(record.add(outcomes)))
    bad = {cell: outcome for cell, outcome in outcomes.items() if outcome.troubles}
    for cell, outcome in bad.items():
        print(f"{cell}: {'; '.join(outcome.troubles)}", file=sys.stderr)
    print(f"{len(outcomes) - len(bad)} of {len(outcomes)} passed; {directory} has what the programs wrote", file=sys.stderr)
    return len(bad)


async def main(asked: argparse.Namespace) -> None:
    directory = Path(tempfile.mkdtemp(prefix="field-"))
    outcomes = await run(wanted(asked), directory, asked.at_once)
    if report(outcomes, directory):
        raise SystemExit(1)


if __name__ == "__main__":
    arguments: Any = options()
    react(lambda _reactor: ensureDeferred(main(arguments)))
