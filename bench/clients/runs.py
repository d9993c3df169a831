"""Runs of clients' programs, one after the other, each at a server of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import IO, Final

import msgspec

from bench.clients.work import AGENT, AHEAD, BATCH, EVENT, FLIGHT, PUBLISHERS, SENDERS, TELL, Result
from bench.dialects import JSON, TOKEN
from bench.errors import Inexact, Unable
from bench.processes import environment, module
from bench.subjects import Subject
from bench.target import Target, Time

BARE: Final = "bare"
OURS: Final = "nexus_client"
NODE: Final = "nexus-client.mjs"
PROGRAMS: Final = (BARE, OURS, NODE)  # of this package; the first is the baseline

# What work.py has, for programs that cannot import it.
_WORK: Final = {
    "NEXUS_BENCH_WORK": msgspec.json.encode(
        {
            "TOKEN": TOKEN,
            "EVENT": EVENT,
            "AGENT": AGENT,
            "TELL": TELL,
            "IN_FLIGHT": BATCH * FLIGHT,
            "SENDERS": SENDERS,
            "PUBLISHERS": PUBLISHERS,
        }
    ).decode()
}

_result: Final = msgspec.json.Decoder(Result)


@dataclass(frozen=True)
class Cell:
    """What the clients do. `bar`: what the Python client must reach, in messages per second."""

    title: str
    unit: str
    bar: int | None = None


CELLS: Final = {
    "events": Cell("Events received by one client", "events", 20_000),
    "samples": Cell("Samples sent by one client and acknowledged, 500 to a message, 8 messages under way", "samples", 10_000),
    "publications": Cell("Events published by one client and acknowledged, 64 under way", "events"),
}


@dataclass(frozen=True)
class Run:
    """One run; `failed` is the reason if there is no result."""

    cell: str
    program: str
    result: Result | None
    failed: str = ""

    @property
    def rate(self) -> float:
        return self.result.messages / self.result.seconds if self.result else 0.0

    @property
    def cost(self) -> float:
        """The client's CPU time for a message, in µs."""
        return self.result.cpu / max(1, self.result.messages) * 1e6 if self.result else 0.0


def run(cells: list[str], rounds: int, time: Time) -> Iterator[Run]:
    """Yield each run when it is done: in each round, every program in turn."""
    for cell in cells:
        for _ in range(rounds):
            for program in PROGRAMS:
                yield once(cell, program, time)


def once(cell: str, program: str, time: Time) -> Run:
    """Run a program with the server on one core and the client on another, if there are two."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        with Subject("nexus").running(cores[0] if len(cores) > 1 else None, JSON) as target:
            arguments = (cell, str(target.address.port), str(time.seconds), str(time.warmup))
            command = _command(program, *arguments)
            if len(cores) > 1:
                command = ["taskset", "-c", str(cores[1]), *command]
            with subprocess.Popen(  # noqa: S603 - a command of our own
                command,
                env=environment() | _WORK,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as child:
                try:
                    return Run(cell, program, _watch(cell, child, target))
                finally:
                    child.kill()
    except (Inexact, Unable) as error:
        return Run(cell, program, None, str(error))


def _command(program: str, *arguments: str) -> list[str]:
    """Return the command of a program. Raise `Unable` if nothing here can run it."""
    if program != NODE:
        return module(f"bench.clients.{program}", *arguments)
    node = shutil.which("node")
    if node is None:
        raise Unable("there is no node")
    return [node, str(Path(__file__).with_name(program)), *arguments]


def _watch(cell: str, child: subprocess.Popen[str], target: Target) -> Result:
    """Return the program's result; meanwhile publish the events that it is to receive."""
    assert child.stdout is not None and child.stderr is not None
    if cell == "events":
        publisher = _Publisher(target.address.port, child.stdout)
        publisher.run()
        last = publisher.last
    else:
        last = child.stdout.readline()
    complaint = child.stderr.read()
    if not last.startswith("{"):
        raise Inexact(complaint.strip().splitlines()[-1] if complaint.strip() else "the program ended without a result")
    result = _result.decode(last)
    if cell == "samples" and target.stored is not None and (kept := target.stored().get(AGENT)) != (result.total, result.total):
        raise Inexact(f"{result.total} samples were acknowledged; kept, and different ones: {kept}")
    return result


class _Publisher:
    """Publishes numbered events over HTTP, never too many that the program has not received yet."""

    def __init__(self, port: int, output: IO[str]) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._output = output
        self._received = -AHEAD  # the program has not subscribed yet
        self.last = ""

    def run(self) -> None:
        reader = Thread(target=self._read)
        reader.start()
        sent = 0
        while reader.is_alive():
            if sent - self._received < AHEAD:
                self._post(sent)
                sent += TELL
            else:
                reader.join(0.0005)
        reader.join()
        self._connection.close()

    def _read(self) -> None:
        for line in self._output:
            self.last = line
            if line.strip().isdigit():
                self._received = int(line)

    def _post(self, first: int) -> None:
        body = msgspec.json.encode([{"eventType": EVENT, "data": _data(number)} for number in range(first, first + TELL)])
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        self._connection.request("POST", "/api/v1/events", body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Inexact(f"the server refused events: {answer.status} {text[:200]!r}")


def _data(number: int) -> dict[str, object]:
    """Return the data of an event, 100 bytes."""
    return {"n": number, "taskId": "t-1", "status": "running", "pad": "x" * (50 - len(str(number)))}
