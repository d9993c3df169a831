"""Tables and plots, made from results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench.cells import CELLS
from bench.plot import Bar, Panel
from bench.runner import Row
from bench.switches import SWITCHES

QUIET: Final = 0.3  # cores that other processes used; rates of a noisier run mean little
BUSY: Final = 0.9  # share of a core used by the tool, from which on it may be the bottleneck

_rows: Final = msgspec.json.Decoder(Row)


@dataclass(frozen=True)
class Spread:
    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One server in one cell, over all its rounds."""

    server: str
    runs: int
    failed: str
    value: Spread
    cost: Spread
    figures: dict[str, float]
    tool: float
    others: float


def read(path: Path) -> list[Row]:
    """Return the rows of a file of results, one JSON object per line."""
    return [_rows.decode(line) for line in path.read_bytes().splitlines() if line]


def lines(rows: Iterable[Row], cell: str) -> list[Line]:
    """Return one line for each server of the cell, in the order in which they ran."""
    by_server: dict[str, list[Row]] = {}
    for row in rows:
        if row.cell == cell:
            by_server.setdefault(row.server, []).append(row)
    return [_line(server, each, CELLS[cell].value) for server, each in by_server.items()]


def _line(server: str, rows: Sequence[Row], value: str) -> Line:
    failed = next((row.failed for row in rows if row.failed), "")
    good = [row for row in rows if not row.failed]
    names = dict.fromkeys(name for row in good for name in row.figures)
    return Line(
        server,
        len(good),
        failed,
        _spread([row.rate if value == "rate" else row.figures[value] for row in good]),
        _spread([row.cost_us for row in good]),
        {name: median(row.figures[name] for row in good if name in row.figures) for name in names},
        median([row.tool for row in good] or [0.0]),
        median([row.others for row in good] or [0.0]),
    )


def _spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values)) if values else Spread(0.0, 0.0, 0.0)


def table(rows: Sequence[Row], cell: str) -> str:
    """Return a Markdown table; ratios are relative to the cell's first server."""
    kind = CELLS[cell]
    found = lines(rows, cell)
    named = kind.value.replace("_", " ") if kind.value != "rate" else f"{kind.unit}/s"
    times = [name for name in dict.fromkeys(name for line in found for name in line.figures) if name != kind.value]
    head = ["server", "runs", named, "ratio", "server CPU, µs each", "ratio"]
    head += [name.removesuffix("_us").replace("_", " ") for name in times]
    head += ["tool busy", "others' load"]
    text = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    first = found[0] if found else None
    for line in found:
        if not line.runs:
            why = line.failed.replace("|", "/").splitlines()[-1][:120]
            text.append(f"| {line.server} | 0 | {why} |{' |' * (len(head) - 3)}")
            continue
        assert first is not None
        cells = [line.server, f"{line.runs}{' (others failed)' if line.failed else ''}"]
        cells += [_shown(line.value), _ratio(line.value, first.value), _shown(line.cost), _ratio(line.cost, first.cost)]
        cells += [_figure(name, line.figures[name]) if name in line.figures else "" for name in times]
        cells.append(f"{line.tool:.0%}{' !' if line.tool > BUSY else ''}")
        cells.append(f"{line.others:.2f}{' !' if line.others > QUIET else ''}")
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def tables(rows: Sequence[Row]) -> str:
    """Return all cells with results, as a section of Markdown."""
    parts = [_about(rows)]
    for cell in CELLS:
        here = [row for row in rows if row.cell == cell]
        if here:
            parts.append(f"### {CELLS[cell].title}\n\n`{cell}`\n\n{table(here, cell)}")
    off = [name for name in SWITCHES if any(row.server.endswith(f"~{name}") for row in rows)]
    if off:
        parts.append(f"### What each switch brings\n\n{switches(rows, off)}")
    return "\n\n".join(parts)


def switches(rows: Sequence[Row], names: Iterable[str]) -> str:
    """Return the effect of the design's switches: the cell's value with each, divided by the value without it."""
    text = ["| switch | what it is | cell | with / without | CPU with / without |", "| --- | --- | --- | --- | --- |"]
    for name in names:
        for cell in SWITCHES[name].cells:
            found = {line.server: line for line in lines(rows, cell)}
            with_it, without = found.get("nexus"), found.get(f"nexus~{name}")
            if with_it and without and with_it.runs and without.runs:
                ratios = f"{_ratio(with_it.value, without.value)} | {_ratio(with_it.cost, without.cost)}"
                text.append(f"| {name} | {SWITCHES[name].what} | `{cell}` | {ratios} |")
    return "\n".join(text)


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Return a panel of bars for each cell."""
    made = []
    for cell, kind in CELLS.items():
        bars = [
            Bar(line.server, line.value.middle, line.value.low, line.value.high, _number(line.value.middle))
            for line in lines(rows, cell)
            if line.runs
        ]
        if bars:
            made.append(Panel(kind.title, f"{kind.unit}/s" if kind.value == "rate" else kind.value.replace("_", " "), bars))
    return made


def _about(rows: Sequence[Row]) -> str:
    machine = rows[-1].machine
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in ("cores", "cpu", "system", "time"))
    return f"{machine.get('cores')} cores ({machine.get('cpu')}), {machine.get('system')}; {versions}. {machine.get('time')}."


def _shown(spread: Spread) -> str:
    return f"{_number(spread.middle)} [{_number(spread.low)}-{_number(spread.high)}]"


def _ratio(value: Spread, base: Spread) -> str:
    return f"{value.middle / base.middle:.2f}" if base.middle else ""


def _number(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    if value >= 1e4:
        return f"{value / 1e3:.0f}k" if value >= 1e5 else f"{value / 1e3:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _figure(name: str, value: float) -> str:
    return _time(value) if name.endswith("_us") else _number(value)


def _time(microseconds: float) -> str:
    return f"{microseconds / 1e3:.1f} ms" if microseconds >= 1000 else f"{microseconds:.0f} µs"
