"""What one run costs and takes: time, CPU of the server, of this tool and of everybody else, and latencies."""

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
    """One run. Rates and costs count `messages`: deliveries, answers or connections, as the cell says."""

    messages: int
    seconds: float
    server: float  # s of CPU, of all its processes, user and system
    tool: float  # share of one core that this tool used; near 1 it is the tool that was measured
    others: float  # cores that neither of them used: above 0.3 or so the machine was not quiet
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.messages / self.seconds

    @property
    def cost(self) -> float:
        """CPU of the server for each message, µs."""
        return self.server / max(1, self.messages) * 1e6


class Meter:
    """Measures once, after the warm-up and for so long as was asked for; it is told again and again how far things are."""

    def __init__(self, target: Target, time: Time, samples: Mapping[str, array[float]]) -> None:
        """`samples` are times (s) by name, filled by whoever takes them; those of the warm-up are thrown away here."""
        self._pids = target.pids
        self._seconds = time.seconds
        self._samples = samples
        self._due = perf_counter() + time.warmup
        self._start: tuple[int, float, float, float, float] | None = None
        self.measure: Measure | None = None

    def look(self, messages: int) -> Measure | None:
        """`messages` counts from the beginning. The measure, once there is one."""
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
    """CPU time of processes, s; Linux counts it in ticks of 10 ms."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def machine_cpu() -> float:
    """CPU time that anything on this machine has used, s."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _wait, irq, softirq = map(int, file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / _TICK


def resident(pids: Sequence[int]) -> int:
    """Memory that is resident, bytes."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            total += int(file.read().split()[1])
    return total * _PAGE


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile, µs."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        f"{name}_p50_us": ordered[len(ordered) // 2] * 1e6,
        f"{name}_p99_us": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e6,
    }
