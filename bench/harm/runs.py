"""Runs of rows: ordinary traffic first, then the hostile traffic, both with bystanders."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from bench.harm.bystander import Report
from bench.harm.bystanders import Bystanders
from bench.harm.node import Node, running
from bench.harm.ordinary import Traffic
from bench.harm.registry import row
from bench.harm.stage import Stage
from bench.meter import percentiles
from bench.runner import about

CPU: Final = 10.0  # times the cost of the same amount of ordinary traffic
MEMORY: Final = 8.0  # times the bytes sent
PING: Final = 25.0  # ms
NOISE: Final = 4 << 20  # bytes of unrelated memory that are ignored
TICKS: Final = 0.05  # s of CPU, the resolution of the measurement
IDLE: Final = 1.0  # s with only the bystanders, before and after the attack
AWAY: Final = ("publish: The event bus is away", 'reader: {"type":"continuity"')
PATIENCE: Final = 20.0  # s for the server to process everything it was sent


class Harm(msgspec.Struct, omit_defaults=True):
    """One run of one row, as written to the file of results."""

    row: str
    sent: int = 0  # bytes
    cpu: float = 0.0  # s for them
    ordinary: float = 0.0  # s for as many bytes of ordinary traffic
    grown: int = 0  # bytes of memory, at the highest
    left: int = 0  # of these, once the client has gone
    disk: int = 0  # bytes
    ping_p50: float = 0.0  # ms, beside it
    ping_p99: float = 0.0
    calm_p99: float = 0.0  # before it
    hurt: list[str] = []
    machine: dict[str, Any] = {}

    @property
    def cpu_ratio(self) -> float:
        return max(0.0, self.cpu - TICKS) / self.ordinary if self.ordinary else 0.0

    @property
    def memory_ratio(self) -> float:
        return max(0, self.grown - NOISE) / max(1, self.sent)

    @property
    def misses(self) -> list[str]:
        """The aims that the run misses, as text."""
        found = []
        if self.cpu_ratio > CPU:
            found.append("CPU")
        if self.memory_ratio > MEMORY:
            found.append("memory")
        if self.left > NOISE + self.sent // 8 + row(self.row).kept[0]:
            found.append("memory that stays")
        if self.ping_p99 > PING:
            found.append("ping")
        if self.hurt:
            found.append("others")
        return found


def run(names: Sequence[str]) -> Iterator[Harm]:
    """Run the rows, each on a new server."""
    machine = about()
    for name in names:
        harm = Harm(name, machine={**machine, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        with running(row(name).redis) as node, Bystanders(node.address.port) as bystanders:
            _measure(harm, node, bystanders)
        yield harm


def _measure(harm: Harm, node: Node, bystanders: Bystanders) -> None:
    one = row(harm.row)
    _cost(node, one.ordinary, 0.0)  # warm-up: one-time costs
    before = node.cpu()
    pinged, _ = bystanders.calm(IDLE)
    background = (node.cpu() - before) / IDLE
    _, harm.calm_p99 = _pings(pinged)
    sent, cpu, _ = _cost(node, one.ordinary, background)
    bystanders.reports()
    base, disk = node.memory(), node.disk()
    with _highest(node) as highest:
        harm.sent, harm.cpu, harm.hurt = _cost(node, one.play, background)
    harm.ordinary = cpu / max(1, sent) * harm.sent
    time.sleep(IDLE)
    harm.grown = max(0, highest[0] - base)
    harm.left = max(0, node.memory() - base)
    harm.disk = max(0, node.disk() - disk)
    pinged, read = bystanders.reports()
    harm.ping_p50, harm.ping_p99 = _pings(pinged)
    harm.hurt += _hurt(pinged, read, one.away)


def _cost(node: Node, play: Traffic, background: float) -> tuple[int, float, list[str]]:
    """Return the bytes sent, the CPU seconds until the server has finished with them, and the harm to other clients."""
    began, before = time.monotonic(), node.cpu()
    with Stage(node) as stage:
        play(stage)
    _wait(node, background)
    return stage.sent, max(0.0, node.cpu() - before - background * (time.monotonic() - began)), stage.hurt


def _wait(node: Node, background: float) -> None:
    end = time.monotonic() + PATIENCE
    step = 0.3
    while time.monotonic() < end:
        before = node.cpu()
        time.sleep(step)
        if node.cpu() - before <= (background + 0.1) * step:
            return


@contextmanager
def _highest(node: Node) -> Iterator[list[int]]:
    """Track the maximum of memory within the context."""
    highest, over = [node.memory()], threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            highest[0] = max(highest[0], node.memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield highest
    finally:
        over.set()
        thread.join()


def _pings(report: Report) -> tuple[float, float]:
    figures = percentiles("ping", report.times)
    return figures.get("ping_p50_us", 0.0) / 1000, figures.get("ping_p99_us", 0.0) / 1000


def _hurt(pinged: Report, read: Report, away: bool) -> list[str]:
    """Return the harm to bystanders. If the bus is `away`, refused publications and notices of gaps are expected."""
    hurt = [*pinged.troubles, *read.troubles]
    if away:
        return list(dict.fromkeys(trouble for trouble in hurt if not trouble.startswith(AWAY)))[:5]
    # A few may still be open when the reports are made.
    if not any("closed" in trouble for trouble in hurt):
        if abs(pinged.pulses - read.pulses) > 3:
            hurt.append(f"of {pinged.pulses} events {read.pulses} came")
        if not pinged.results:
            hurt.append("no command was executed")
    return list(dict.fromkeys(hurt))[:5]
