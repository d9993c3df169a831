"""A client of either language behind a faulty network, a publisher that goes straight to the node, and who judges both."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.auth.tokens import ISSUER, SECRET
from tests.clients.faults.program import PATIENCE, Program
from tests.clients.faults.source import NAME, Source
from tests.clients.faults.wire import Wire
from tests.e2e.server import NexusServer, until
from tests.reliability.book import Book, Watcher

INTERVAL = 2  # s between two heartbeats
TIMEOUT = 5  # s without a byte from the client, after which the server gives it up
RATE = 6  # attempts within a second: by full jitter over 1, 1, 2, 4, … s a seventh comes once in 700,000 times

CONFIG = f"""
[heartbeat]
interval = {INTERVAL}
timeout = {TIMEOUT}

[limits]
send_queue = 65536
bytes_rate = 0
subject_bytes_rate = 0

[roles.watcher]
subscribe = ["**"]

[[auth.jwt]]
issuer = "{ISSUER}"
audience = "nexus"
algorithms = ["HS256"]
secret = "{SECRET}"
"""

_types = (f"fault.number{number}" for number in itertools.count(1))


class Bed:
    """One client and its judge. `check` fails if anything was lost in silence, repeated, out of order or too often tried."""

    def __init__(self, directory: Path, language: str, node: NexusServer, port: int = 0) -> None:
        """`port` is where the wire ends, if not at the node."""
        self.directory = directory
        self.language = language
        self.node = node
        self.book = Book()
        self.type = next(_types)
        self.agent = self.type.replace(".", "-")
        self.source = Source(self.type, self.book)
        self.wire = Wire(port or node.port)
        self.programs: list[Program] = []
        self._own: list[NexusServer] = []

    async def alone(self) -> None:
        """Have a node of its own, which the scenario may end."""
        self.node = node_in(self.directory)
        self._own = [self.node]
        await self.node.start()
        self.wire.discard()
        self.wire = Wire(self.node.port)

    def program(
        self, name: str = "client", wire: Wire | None = None, watcher: Watcher | None = None, **options: Any
    ) -> Program:
        """Start a program that connects through the wire, with an administrator's token unless `options` says otherwise."""
        options = {"token": self.node.token, "url": (wire or self.wire).url} | options
        options = {name: value for name, value in options.items() if value is not None}
        program = Program(self.language, self.directory, f"{self.agent}-{name}", watcher, options)
        self.programs.append(program)
        program.launch()
        return program

    async def watch(self, **options: Any) -> Program:
        """Start a client that subscribes to the publisher's events, and return it once they flow."""
        program = self.watcher(**options)
        await self.begin(program)
        return program

    def watcher(self, **options: Any) -> Program:
        """Start a client that subscribes to the publisher's events."""
        program = self.program("watcher", watcher=Watcher("client", [self.type], self.book, hears=False), **options)
        program.tell("subscribe", patterns=[self.type])
        return program

    async def begin(self, program: Program) -> None:
        """Have the publisher publish; return once its events reach the client."""
        await program.fact("state", state="connected")
        await self.source.connect(self.node)
        self.source.load()
        event = await program.fact("event")
        first = event["data"]["number"]
        # What was published before it subscribed is nothing to it.
        numbers = self.book.acknowledged[self.type, NAME]
        numbers[:] = [number for number in numbers if number >= first]

    async def back(self, program: Program, arrivals: int) -> None:
        """Wait until the client has connected for more than the `arrivals`-th time, and events flow again."""
        await until(lambda: len(self.wire.arrivals) > arrivals, PATIENCE, f"for a connection\n{program.output[-3000:]}")
        await self.flows(program)

    async def flows(self, program: Program) -> None:
        """Wait until an event reaches the client that is published from now on."""
        number = self.source.number
        await self.reaches(program, number + 1)

    async def reaches(self, program: Program, number: int) -> None:
        assert program.watcher is not None
        last = program.watcher.last

        def seen() -> bool:
            program.read()
            assert program.running, program.output
            return last.get((self.type, NAME), 0) >= number

        await until(seen, PATIENCE, f"for event {number}\n{program.output[-3000:]}")

    async def check(self, *watching: Program, gaps: int | None = 0) -> None:
        """End everything in order. `gaps`: how many each client must have been told; None: any number."""
        number = await self.source.last()
        for program in watching:
            await self.reaches(program, number)
        for program in self.programs:
            await program.close()
        self.book.check([program.watcher for program in watching if program.watcher is not None])
        assert self.book.faults == [], "\n".join(self.book.faults)
        if gaps is not None:
            assert [program.watcher.gaps for program in watching if program.watcher is not None] == [gaps] * len(watching)
        self.check_attempts(self.wire)

    def check_attempts(self, wire: Wire) -> None:
        """Fail if the client had two sockets at once, left one open, or tried too often in any second."""
        assert wire.most <= 1, f"{wire.most} sockets at once"
        assert wire.open == 0
        for start in wire.arrivals:
            within = [time for time in wire.arrivals if start <= time < start + 1]
            assert len(within) <= RATE, f"{len(within)} attempts in a second"

    def stored(self, node: NexusServer | None = None) -> Counter[int]:
        """Return how often each number of this agent's samples is in the node's store."""
        with closing(sqlite3.connect((node or self.node).database)) as store:
            query = "SELECT metrics FROM samples JOIN agents ON agents.id = agent WHERE name = ?"
            rows = store.execute(query, (self.agent,)).fetchall()
        return Counter(json.loads(metrics)["number"] for (metrics,) in rows)

    def discard(self) -> None:
        self.source.rest()
        self.source.leave()
        for program in self.programs:
            program.discard()
        self.wire.discard()
        for node in self._own:
            node.discard()


def node_in(directory: Path, *args: str, name: str = "nexus") -> NexusServer:
    """Return a node with a short heartbeat, not started yet."""
    (directory / "nexus.toml").write_text(CONFIG)
    return NexusServer(directory, "--config", str(directory / "nexus.toml"), *args, name=name, env={"NEXUS_DRAIN": "2"})


Scenario = Callable[[Bed], Coroutine[Any, Any, None]]


def scenarios(*functions: Scenario) -> Any:
    """Return the decorator of the test that runs them."""
    return pytest.mark.parametrize("scenario", functions, ids=[function.__name__ for function in functions])
