"""Runs: all servers in turn, round after round, so that disturbances of the machine affect all of them alike."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import msgspec

from bench.cells import CELLS
from bench.errors import Inexact, Unable
from bench.meter import Measure
from bench.peers import crossbar
from bench.subjects import Subject
from bench.target import Time

PACKAGES: Final = ("twisted", "autobahn", "websockets", "msgspec", "hiredis")


class Row(msgspec.Struct, omit_defaults=True):
    """One run, as written to the file of results; `failed` is the reason if there are no figures."""

    cell: str
    server: str
    round: int
    failed: str = ""
    inexact: bool = False
    rate: float = 0.0
    cost_us: float = 0.0
    messages: int = 0
    seconds: float = 0.0
    tool: float = 0.0
    others: float = 0.0
    figures: dict[str, float] = {}
    machine: dict[str, Any] = {}


@dataclass(frozen=True)
class Plan:
    """The plan of runs: cells with their servers, the baseline first."""

    cells: Sequence[tuple[str, Sequence[str]]]
    rounds: int
    time: Time
    pin: bool  # pin the server to one core and this tool to another


def run(plan: Plan) -> Iterator[Row]:
    """Yield each run when it is done. After a failed one, the others are still tried."""
    cpu = _pin() if plan.pin else None
    machine = about()
    for cell, servers in plan.cells:
        for number in range(plan.rounds):
            for server in servers:
                yield _once(cell, server, number, plan.time, cpu, machine)


def _once(cell: str, server: str, number: int, duration: Time, cpu: int | None, machine: dict[str, Any]) -> Row:
    row = Row(cell, server, number, machine={**machine, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    try:
        with Subject(server).running(cpu, CELLS[cell].dialect) as target:
            measure = CELLS[cell].run(target, duration)
    except Inexact as error:
        row.failed, row.inexact = str(error), True
    except Unable as error:
        row.failed = str(error)
    else:
        _fill(row, measure)
    return row


def _fill(row: Row, measure: Measure) -> None:
    row.rate = measure.rate
    row.cost_us = measure.cost
    row.messages = measure.messages
    row.seconds = measure.seconds
    row.tool = measure.tool
    row.others = measure.others
    row.figures = dict(measure.figures)


def _pin() -> int | None:
    """Pin this tool to one core. Return the core for servers; None if there are not two."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    os.sched_setaffinity(0, {cores[1]})
    return cores[0]


def about() -> dict[str, Any]:
    """Return the machine and the versions of the software on it."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    if (found := crossbar.version()) is not None:
        versions["crossbar"] = found
    return {"cores": os.cpu_count(), "cpu": _cpu(), "system": platform.platform(), "python": sys.version.split()[0], **versions}


def _cpu() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine())
