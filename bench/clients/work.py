"""What a client's program has in common with the others: its arguments, its clock, and how it reports.

A program is `python -m bench.clients.NAME CELL PORT SECONDS WARMUP`. It writes a line with a number to standard output from
time to time, how many events it has received, and at the end its result as JSON.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter, process_time
from typing import Final

import msgspec

from bench.errors import Inexact

EVENT: Final = "bench.clients"
AGENT: Final = "agent-0001"
AHEAD: Final = 5_000  # events that are published and not received yet
TELL: Final = 500  # events between two reports
BATCH: Final = 500  # samples of one message
FLIGHT: Final = 8  # such messages under way
SENDERS: Final = 100  # tasks that have samples, of a client that makes the messages itself
PUBLISHERS: Final = 64  # publications under way


class Result(msgspec.Struct):
    """What one run has measured; `cpu` is the program's own time, in s. `total` counts the warm-up and the rest too."""

    messages: int
    seconds: float
    cpu: float
    total: int


class Work:
    """Counts messages until the time is over."""

    def __init__(self, seconds: float, warmup: float) -> None:
        self.total = 0
        self._due = perf_counter() + warmup
        self._seconds = seconds
        self._begin: tuple[int, float, float] | None = None
        self.result: Result | None = None

    @property
    def over(self) -> bool:
        return self.result is not None

    def count(self, messages: int = 1) -> None:
        self.total += messages
        if self.result is None and (now := perf_counter()) >= self._due:
            state = (self.total, now, process_time())
            if self._begin is None:
                self._begin = state
                self._due = now + self._seconds
            else:
                count, seconds, cpu = (after - before for before, after in zip(self._begin, state, strict=True))
                self.result = Result(int(count), seconds, cpu, 0)

    def event(self, number: object) -> None:
        """Count an event; it must be the next one."""
        if number != self.total:
            raise Inexact(f"expected event {self.total}, got {number!r:.100}")
        self.count()
        if self.total % TELL == 0:
            say(self.total)


def say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def sample(number: int) -> dict[str, object]:
    """Return the metrics of a sample."""
    return {"i": number, "cpu": 45.2, "memory": 62.1, "status": "running"}


def run(cells: Mapping[str, Callable[[int, Work], Awaitable[None]]]) -> None:
    """Carry out what the arguments say, and write the result."""
    cell, port, seconds, warmup = sys.argv[1:]
    work = Work(float(seconds), float(warmup))

    async def main() -> None:
        await cells[cell](int(port), work)

    asyncio.run(main())
    assert work.result is not None
    work.result.total = work.total
    sys.stdout.write(msgspec.json.encode(work.result).decode() + "\n")
