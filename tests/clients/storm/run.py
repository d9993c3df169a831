"""The storm with real clients and a real node."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import treq
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from tests.client import clock
from tests.clients.storm.counts import Counts, count
from tests.e2e.server import ROOT, Child, NexusServer, answers, until

PATIENCE = 120.0  # s until all are connected
POLL = 0.2  # s


class CrowdProcess(Child):
    """Clients in a process of their own."""

    stdin = subprocess.PIPE

    def __init__(self, directory: Path, number: int, node: NexusServer, size: int) -> None:
        super().__init__(f"crowd-{number}", directory)
        self.size = size
        command = [sys.executable, "-m", "tests.clients.storm.crowd", node.http, node.token, str(size)]
        self.spawn(command, os.environ, ROOT)
        self._answered = 0

    async def ask(self, order: str) -> Any:
        self.write(f"{order}\n".encode())
        self._answered += 1
        await until(lambda: self._lines() >= self._answered, PATIENCE, f"for an answer:\n{self.output[-2000:]}")
        return json.loads(self.output.splitlines()[self._answered - 1])

    def _lines(self) -> int:
        assert self.running, self.output
        return self.output.count("\n")


@dataclass(frozen=True)
class Figures:
    """`away`: seconds from the node's end until it listened again; `back`: from there until the last client was connected."""

    end: str
    away: float
    back: float
    counts: Counts
    seen: int  # upgrades that the restarted node has seen, by its own metrics


class Storm:
    """A node with many clients. The node is ended and started again by `strike`."""

    def __init__(self, directory: Path, clients: int, processes: int) -> None:
        self.clients = clients
        self.node = NexusServer(directory)
        self._directory = directory
        self._processes = processes
        self.crowds: list[CrowdProcess] = []

    async def start(self) -> None:
        await self.node.start()
        share, rest = divmod(self.clients, self._processes)
        self.crowds = [
            CrowdProcess(self._directory, number, self.node, share + (number < rest)) for number in range(self._processes)
        ]
        await self._complete()

    async def strike(self, end: str) -> Figures:
        """End the node by `stop` or `kill` and start it again at once. Return how the clients came back."""
        await self._ask("forget")
        await (self.node.stop() if end == "stop" else self.node.kill())
        gone = time.monotonic()
        self.node.launch()
        while not answers(self.node.port):
            await deferLater(clock, POLL / 20)
        listening = time.monotonic()
        await self._complete()
        reports = await self._ask("report")
        attempts = [moment for report in reports for moment in report["attempts"]]
        arrivals = [moment for report in reports for moment in report["arrivals"]]
        assert [wrong for report in reports for wrong in report["wrong"]] == []
        assert sum(report["counted"] for report in reports) == len(attempts), "by the clients' own counters"
        return Figures(end, listening - gone, max(arrivals) - listening, count(attempts), await self._seen())

    async def _complete(self) -> None:
        end = time.monotonic() + PATIENCE
        while (here := sum(await self._ask("size"))) < self.clients:
            assert time.monotonic() < end, f"{here} of {self.clients} are there:\n{self.node.output[-3000:]}"
            await deferLater(clock, POLL)

    async def _ask(self, order: str) -> list[Any]:
        return list(await gatherResults([ensureDeferred(crowd.ask(order)) for crowd in self.crowds]))

    async def _seen(self) -> int:
        """Return how many upgrades the node has accepted or refused since it began."""
        headers = Headers({"Authorization": [f"Bearer {self.node.token}"]})
        answer = await treq.get(f"{self.node.http}/metrics", headers=headers, persistent=False)
        text = (await treq.content(answer)).decode()
        names = r"^nexus_connections_(?:opened_total|refused_total\{.*\}) (\S+)$"
        return sum(int(float(value)) for value in re.findall(names, text, re.MULTILINE))

    def discard(self) -> None:
        for crowd in self.crowds:
            crowd.discard()
        self.node.discard()
