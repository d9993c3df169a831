"""`python -m bench harm [ROW…]` and `python -m bench harm-report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import randrange
from typing import Any, Final

import msgspec

from bench.harm import page
from bench.harm.registry import MIXED, ROWS, row
from bench.harm.runs import run
from bench.processes import ROOT

PAGE: Final = ROOT / "docs" / "security.md"
RESULTS: Final = ROOT / "var" / "harm.jsonl"
DRAWN: Final = 3  # combinations


def add_parsers(commands: Any) -> None:
    """Add the two commands to the tool's parser."""
    harm = commands.add_parser("harm", help="hostile clients, and what they cost the server and everybody else")
    about = f"default: all, and {DRAWN} of {MIXED}-SEED; see `list`"
    harm.add_argument("rows", nargs="*", type=_row, metavar="ROW", help=about)
    harm.add_argument("--json", type=Path, help="add the runs to this file, a JSON object a line, as `harm-report` reads")
    report = commands.add_parser("harm-report", help="the table out of such files, written into a page")
    report.add_argument("results", nargs="*", type=Path, default=[RESULTS], help=f"[{RESULTS.relative_to(ROOT)}]")
    report.add_argument("--page", type=Path, default=PAGE, help=f"[{PAGE.relative_to(ROOT)}]")


def execute(options: argparse.Namespace) -> int:
    """Return 0 if every row is within the aims, else 1."""
    if options.command == "harm-report":
        page.fill(options.page, [harm for path in options.results for harm in page.read(path)])
        return 0
    names = options.rows or [*ROWS, *(f"{MIXED}-{randrange(10**6)}" for _ in range(DRAWN))]  # noqa: S311 - no secret
    harms = []
    for harm in run(names):
        harms.append(harm)
        sys.stderr.write(f"{harm.row}: {', '.join(harm.misses) or 'within the aims'}\n")
        if options.json is not None:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            with options.json.open("ab") as file:
                file.write(msgspec.json.encode(harm) + b"\n")
    sys.stdout.write(f"{page.table(harms)}\n")
    return 1 if any(harm.misses for harm in harms) else 0


def _row(name: str) -> str:
    try:
        row(name)
    except KeyError:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ROWS)}, {MIXED}-SEED") from None
    return name
