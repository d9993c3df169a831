"""`python -m bench clients [CELL…]`."""

from __future__ import annotations

import argparse
import sys
from statistics import median
from typing import Any

from bench.clients.runs import CELLS, OURS, Run, run
from bench.runner import about
from bench.target import Time


def add_parser(commands: Any) -> None:
    """Add the command to the tool's parser."""
    clients = commands.add_parser("clients", help="the clients beside the same work on a bare WebSocket")
    clients.add_argument("cells", nargs="*", choices=[*CELLS, []], metavar="CELL", help=f"of {', '.join(CELLS)} [all]")
    clients.add_argument("--rounds", type=int, default=5, help="[5]")
    clients.add_argument("--seconds", type=float, default=2.0, help="measured in each run [2]")
    clients.add_argument("--warmup", type=float, default=0.5, help="before that [0.5]")


def execute(options: argparse.Namespace) -> int:
    """Return 0 if every run was exact and the Python client reached every bar, else 1."""
    runs = []
    for each in run(options.cells or list(CELLS), options.rounds, Time(options.seconds, options.warmup)):
        runs.append(each)
        what = each.failed or f"{each.rate:,.0f} {CELLS[each.cell].unit}/s, {each.cost:.2f} µs of CPU each"
        sys.stderr.write(f"{each.cell} {each.program}: {what}\n")
    sys.stdout.write(f"{table(runs)}\n")
    return 1 if any(each.failed for each in runs) or missed(runs) else 0


def missed(runs: list[Run]) -> list[str]:
    """Return the cells in which the Python client was slower than the bar."""
    return [cell for cell, ours in _ours(runs).items() if (bar := CELLS[cell].bar) and median(r.rate for r in ours) < bar]


def table(runs: list[Run]) -> str:
    """Return what was measured as Markdown."""
    machine = about()
    software = ", ".join(f"{name} {machine[name]}" for name in ("python", "websockets", "msgspec") if name in machine)
    text = [f"{machine['cores']} cores ({machine['cpu']}), {machine['system']}; {software}."]
    for cell in dict.fromkeys(each.cell for each in runs):
        bar = CELLS[cell].bar
        text.append(f"\n{CELLS[cell].title} (`{cell}`){f'; the bar is {bar:,}/s' if bar else ''}:\n")
        text.append(f"| client | runs | {CELLS[cell].unit}/s | ratio | client CPU, µs each | ratio |")
        text.append("| --- | --- | --- | --- | --- | --- |")
        first: tuple[float, float] | None = None
        for program in dict.fromkeys(each.program for each in runs if each.cell == cell):
            found = [each for each in runs if (each.cell, each.program) == (cell, program)]
            good = [each for each in found if not each.failed]
            if not good:
                text.append(f"| {program} | 0 | {found[0].failed[:120].replace('|', '/')} | | | |")
                continue
            rate, cost = [each.rate for each in good], [each.cost for each in good]
            first = first or (median(rate), median(cost))
            ratios = f"{median(rate) / first[0]:.2f}", f"{median(cost) / first[1]:.2f}"
            rates = f"{median(rate):,.0f} [{min(rate):,.0f}-{max(rate):,.0f}]"
            costs = f"{median(cost):.1f} [{min(cost):.1f}-{max(cost):.1f}]"
            text.append(f"| {program} | {len(good)} | {rates} | {ratios[0]} | {costs} | {ratios[1]} |")
    return "\n".join(text)


def _ours(runs: list[Run]) -> dict[str, list[Run]]:
    ours: dict[str, list[Run]] = {}
    for each in runs:
        if each.program == OURS and not each.failed:
            ours.setdefault(each.cell, []).append(each)
    return ours
