"""`python -m bench`: runs the comparison, the switches, clients and hostile ones, and writes the results into their pages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import msgspec

from bench import plot, report
from bench.cells import CELLS
from bench.clients import command as clients
from bench.dialects import HISTORY, JSON, WAMP, Dialect
from bench.harm import command as harm
from bench.harm.page import rows as harm_rows
from bench.nodes import command as nodes
from bench.peers.crossbar import VARIABLE
from bench.processes import ROOT
from bench.runner import Plan, Row, run
from bench.subjects import Subject
from bench.switches import SWITCHES
from bench.target import Time

SERVERS: Final = "autobahn,websockets,crossbar,nexus"
PAGE: Final = ROOT / "docs" / "performance.md"
RESULTS: Final = ROOT / "var" / "bench.jsonl"
BEGIN: Final = "<!-- figures of {}: python -m bench report writes from here -->"
END: Final = "<!-- to here -->"


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if all results were exact and the harm within the aims; 1 if a message was lost, repeated, reordered or
    misrouted, or the harm missed an aim; 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "list":
        return _list()
    if options.command == "report":
        return _report(options.results, options.page)
    if options.command == "clients":
        return clients.execute(options)
    if options.command == "nodes":
        return nodes.execute(options)
    if options.command.startswith("harm"):
        return harm.execute(options)
    cells = _cells(options)
    if not cells:
        parser.error("none of these servers speaks what these cells are in")
    plan = Plan(cells, options.rounds, Time(options.seconds, options.warmup), options.cpu)
    return _measure(plan, options.json, options.command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench", description="Load for Nexus, exact, beside other servers.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="cells, servers and switches")
    compare = commands.add_parser("run", help="servers in turn; the first is the baseline")
    compare.add_argument("cells", nargs="*", type=_one_of(CELLS), metavar="CELL", help="default: all; see `list`")
    about = f"by commas; each runs the cells whose dialect it speaks [{SERVERS}]"
    compare.add_argument("--servers", type=_servers, default=_servers(SERVERS), help=about)
    switches = commands.add_parser("switches", help="nexus, and nexus with each part of its design switched off")
    switches.add_argument("switches", nargs="*", type=_one_of(SWITCHES), metavar="SWITCH", help="default: all; see `list`")
    for each in (compare, switches):
        each.add_argument("--rounds", type=int, default=5, help="[5]")
        each.add_argument("--seconds", type=float, default=2.0, help="measured in each run [2]")
        each.add_argument("--warmup", type=float, default=0.5, help="before that [0.5]")
        each.add_argument("--cpu", action="store_true", help="server and tool on one core each")
        each.add_argument("--json", type=Path, help="add the runs to this file, a JSON object a line, as `report` reads")
    page = commands.add_parser("report", help="tables and plot out of such files, written into a page")
    page.add_argument("results", nargs="*", type=Path, default=[RESULTS], help=f"[{RESULTS.relative_to(ROOT)}]")
    page.add_argument("--page", type=Path, default=PAGE, help=f"[{PAGE.relative_to(ROOT)}]; the plots go beside it")
    clients.add_parser(commands)
    nodes.add_parser(commands)
    harm.add_parsers(commands)
    return parser


def _one_of(known: Collection[str]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return name

    return check


def _servers(text: str) -> list[str]:
    try:
        return [Subject(name).name for name in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _cells(options: argparse.Namespace) -> list[tuple[str, list[str]]]:
    if options.command == "run":
        chosen = ((cell, _speaking(CELLS[cell].dialect, options.servers)) for cell in options.cells or CELLS)
        return [(cell, servers) for cell, servers in chosen if servers]
    # Per cell, so that all runs of a cell alternate.
    cells: dict[str, list[str]] = {}
    for name in options.switches or SWITCHES:
        for cell in SWITCHES[name].cells:
            cells.setdefault(cell, ["nexus"]).append(f"nexus~{name}")
    return list(cells.items())


def _speaking(dialect: Dialect, servers: list[str]) -> list[str]:
    return [name for name in servers if dialect in Subject(name).dialects]


def _list() -> int:
    for name, cell in CELLS.items():
        _say(f"{name:17}{cell.title}")
    _say("\nservers: nexus[-redis][-wss][-live][~SWITCH]; autobahn[-wss], websockets[-wss] (JSON); crossbar[-wss] (WAMP,")
    _say(f"in the virtual environment that {VARIABLE} names); switches:\n")
    for name, switch in SWITCHES.items():
        _say(f"{name:14}{switch.what}")
    _say(f"\nrows of harm:\n\n{harm_rows()}")
    return 0


def _measure(plan: Plan, results: Path | None, command: str) -> int:
    rows: list[Row] = []
    if results is not None:
        results.parent.mkdir(parents=True, exist_ok=True)
    for row in run(plan):
        rows.append(row)
        rate = f"{row.rate:,.0f} {CELLS[row.cell].unit}/s, {row.cost_us:.2f} µs of CPU each, tool {row.tool:.0%} busy"
        what = row.failed or rate
        sys.stderr.write(f"{row.cell} {row.server} {row.round + 1}/{plan.rounds}: {what}\n")
        if results is not None:
            with results.open("ab") as file:
                file.write(msgspec.json.encode(row) + b"\n")
    for cell, _ in plan.cells:
        _say(f"\n{CELLS[cell].title} ({cell})\n\n{report.table(rows, cell)}")
    if command == "switches":
        _say(f"\n{report.switches(rows, SWITCHES)}")
    return 1 if any(row.inexact for row in rows) else 0


def _report(results: list[Path], page: Path) -> int:
    rows = [row for path in results for row in report.read(path)]
    for dialect in (JSON, WAMP, HISTORY):
        # Sections without results remain unchanged.
        if found := [row for row in rows if CELLS[row.cell].dialect is dialect]:
            _fill(page, dialect, found)
    return 0


def _fill(page: Path, dialect: Dialect, rows: list[Row]) -> None:
    begin = BEGIN.format(dialect.name)
    before, _, rest = page.read_text().partition(begin)
    after = rest.partition(END)[2]
    drawing = page.with_name(f"{page.stem}-{dialect.name.lower()}.svg")
    drawing.write_text(plot.svg(report.panels(rows)))
    figures = f"![The medians, with the spread]({drawing.name})\n\n{report.tables(rows)}"
    page.write_text(f"{before}{begin}\n\n{figures}\n\n{END}{after}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
