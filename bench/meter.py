"""What one run costs and takes: time, CPU of the server, of this tool and of everybody else, and latencies."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

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
    """Measures from its making to `stop`."""

    def __init__(self, pids: Sequence[int], messages: int) -> None:
        self._pids = pids
        self._messages = messages
        self._machine = machine_cpu()
        self._server = server_cpu(pids)
        self._tool = time.process_time()
        self._began = time.perf_counter()

    def stop(self, messages: int, figures: Mapping[str, float]) -> Measure:
        """`messages` as counted from the same beginning as those given when this was made."""
        seconds = time.perf_counter() - self._began
        tool = time.process_time() - self._tool
        server = server_cpu(self._pids) - self._server
        machine = machine_cpu() - self._machine
        others = max(0.0, machine - server - tool) / seconds
        return Measure(messages - self._messages, seconds, server, tool / seconds, others, figures)


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
