"""Measurements of one run: time, CPU of the server, of this tool and of other processes, and latencies."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Final

from bench.target import Target, Time

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Measure:
    """The result of one run. Rates and costs are per message: deliveries, answers or connections, as the cell defines."""

    messages: int
    seconds: float
    server: float  # s of CPU, of all its processes, user and system
    tool: float  # share of one core that this tool used; near 1 the tool was the bottleneck
    others: float  # cores used by other processes: above about 0.3 the machine was not quiet
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def cost(self) -> float:
        """The server's CPU time per message in µs."""
        return self.server / max(1, self.messages) * 1e6


class Meter:
    """Measures once, after the warm-up and for the requested time; the scenario reports its progress regularly."""

    def __init__(self, target: Target, time: Time, samples: Mapping[str, array[float]]) -> None:
        """`samples` are times (s) by name, appended by the scenario; those of the warm-up are discarded here."""
        self._pids = target.pids
        self._seconds = time.seconds
        self._samples = samples
        self._due = perf_counter() + time.warmup
        self._start: tuple[int, float, float, float, float] | None = None
        self.measure: Measure | None = None

    def look(self, messages: int) -> Measure | None:
        """Report progress; `messages` counts from the start. Return the measure once it is complete."""
        if self.measure is None and (now := perf_counter()) >= self._due:
            state = (messages, now, server_cpu(self._pids), process_time(), machine_cpu())
            if self._start is None:
                self._start = state
                self._due = now + self._seconds
                for times in self._samples.values():
                    del times[:]
            else:
                self.measure = self._difference(self._start, state)
        return self.measure

    def _difference(self, *states: tuple[int, float, float, float, float]) -> Measure:
        messages, seconds, server, tool, machine = (after - before for before, after in zip(*states, strict=True))
        figures: dict[str, float] = {}
        for name, times in self._samples.items():
            figures |= percentiles(name, times)
        others = max(0.0, machine - server - tool) / seconds
        return Measure(int(messages), seconds, server, tool / seconds, others, figures)


def server_cpu(pids: Sequence[int]) -> float:
    """Return the CPU time of processes in seconds; Linux counts it in ticks of 10 ms."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def machine_cpu() -> float:
    """Return the CPU time used by all processes of this machine, in seconds."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _wait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / _TICK


def resident(pids: Sequence[int]) -> int:
    """Return the resident memory in bytes."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            total += int(file.read().split()[1])
    return total * _PAGE


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """Return the median and the 99th percentile in µs."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        f"{name}_p50_us": ordered[len(ordered) // 2] * 1e6,
        f"{name}_p99_us": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e6,
    }
