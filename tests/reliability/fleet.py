"""Two real nodes on a real Redis under load, with clients that hold them to what they promise."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import treq
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall

from tests.client import clock
from tests.conftest import LONG
from tests.e2e.server import NexusServer, until
from tests.reliability.book import Book, Watcher
from tests.reliability.clients import TELEMETRY, Agent, Publisher, Subscriber, later

TICK = 0.02  # s between portions of the load
PATIENCE = 60.0  # s for anything, on a busy machine
WORK = ("work.a", "work.b", "work.c", "work.d")  # event types of the publishers


class Fleet:
    """Everything, and the checks. `figures` are what was measured."""

    def __init__(
        self, directory: Path, bus: str, samples: int, events: int, env: dict[str, str] | None = None, seed: int = 1
    ) -> None:
        """`samples` and `events` are sent in a second, by all together."""
        self.directory = directory
        self.nodes = [NexusServer(directory, "--bus", bus, name=name, env=env) for name in ("one", "two")]
        self.book = Book()
        chance = random.Random(seed)
        self.publishers = [
            Publisher(f"publisher {number}", event_type, self.nodes[number % 2], self.book)
            for number, event_type in enumerate(WORK)
        ]
        self.agents = [Agent(f"agent-{number}", self.nodes[number % 2], self.book) for number in range(4)]
        self.watchers: list[Subscriber] = []
        for number in (0, 1):
            named = Watcher(f"watcher of names {number}", WORK, self.book)
            wild = Watcher(f"watcher of a pattern {number}", WORK, self.book)
            telemetry = Watcher(f"watcher of telemetry {number}", [TELEMETRY], self.book)
            self.watchers += [
                Subscriber(named, WORK, self.nodes[number:]),
                Subscriber(wild, ["work.*"], self.nodes[number:]),
                Subscriber(telemetry, [TELEMETRY], self.nodes[number:]),
            ]
        self.visitors = [
            Subscriber(Watcher("visitor", WORK, self.book), WORK, self.nodes, chance),
            Subscriber(Watcher("visitor by pattern", WORK, self.book), ["work.*"], self.nodes, chance),
        ]
        self.ready_after: list[float] = []
        self._samples = samples
        self._events = events
        self._began = 0.0
        self._sent = [0, 0]
        self._load = LoopingCall(self._portion)
        self._load.clock = clock
        self._loading: Any = None

    @property
    def senders(self) -> list[Publisher | Agent]:
        return [*self.publishers, *self.agents]

    @property
    def subscribers(self) -> list[Subscriber]:
        return [*self.watchers, *self.visitors]

    async def start(self) -> None:
        for node in self.nodes:
            node.launch()
        await gatherResults([ensureDeferred(self.status(node, 200)) for node in self.nodes])
        for publisher in self.publishers:
            await publisher.start()
            await publisher.last()  # so that each type has begun
        for agent in self.agents:
            await agent.start()
        for subscriber in self.subscribers:
            await subscriber.start()
        # What was published before they came is nothing to them.
        for numbers in self.book.acknowledged.values():
            numbers.clear()

    # --- load

    def load(self) -> None:
        self._began = time.monotonic()
        self._sent = [0, 0]
        self._loading = self._load.start(TICK)

    def _portion(self) -> None:
        passed = time.monotonic() - self._began
        loads: list[tuple[int, Sequence[Publisher | Agent]]] = [(self._samples, self.agents), (self._events, self.publishers)]
        for place, (rate, senders) in enumerate(loads):
            # A backlog of this process is not made up for.
            due = min(int(passed * rate) - self._sent[place], rate // 5 + 1)
            self._sent[place] = int(passed * rate)
            for number in range(due):
                senders[(self._sent[place] + number) % len(senders)].send()

    async def under_load(self, events: int) -> None:
        """Returns after so many more events were published or refused."""
        before = self._published()
        await until(lambda: self._published() >= before + events, PATIENCE, f"for {events} events:\n{self.logs()}")

    def _published(self) -> int:
        return sum(publisher.number - len(publisher.waiting) for publisher in self.publishers)

    async def visit(self) -> None:
        """Have clients leave and come back."""
        await gatherResults([ensureDeferred(visitor.visit()) for visitor in self.visitors]).addTimeout(PATIENCE, clock)

    async def quiet(self) -> None:
        """Stops the load, and waits until everything is answered."""
        if self._load.running:
            self._load.stop()
            await self._loading

        def answered() -> bool:
            return not any(one.waiting for one in self.senders)

        await until(answered, PATIENCE, f"for answers:\n{self.logs()}")

    # --- health

    async def status(self, node: NexusServer, wanted: int) -> None:
        """Waits until `/health/ready` answers with that."""
        end = clock.seconds() + PATIENCE
        while await self._ready(node) != wanted:
            assert clock.seconds() < end, f"{node.http} is not {wanted}:\n{self.logs()}"
            await later(TICK)

    async def _ready(self, node: NexusServer) -> int:
        try:
            answer = await treq.get(f"{node.http}/health/ready", timeout=5, persistent=False)
            await treq.content(answer)
        except Exception:
            return 0
        return int(answer.code)

    async def lost(self, *nodes: int) -> None:
        """Returns once these nodes, or all, say that the bus is away."""
        chosen = [self.nodes[number] for number in nodes] or self.nodes
        await gatherResults([ensureDeferred(self.status(node, 503)) for node in chosen])

    async def ready(self) -> None:
        """Returns once all nodes are ready again; notes how long that took from now."""
        began = time.monotonic()
        await gatherResults([ensureDeferred(self.status(node, 200)) for node in self.nodes])
        self.ready_after.append(time.monotonic() - began)

    # --- the end

    async def settled(self) -> None:
        """Stops the load; returns once the last event of each stream was seen by everybody."""
        await self.quiet()
        last = {publisher.event_type: (publisher.name, await publisher.last()) for publisher in self.publishers}

        def behind() -> list[str]:
            found = []
            for one in self.subscribers:
                for event_type in one.watcher.types & last.keys():
                    source, number = last[event_type]
                    if one.watcher.last.get((event_type, source)) != number:
                        found.append(f"{one.watcher.name} {event_type}")
            return found

        await until(lambda: not behind(), PATIENCE, f"for the last events:\n{self.logs()}\n{self.book.faults}")
        # One sample after another, since those of an outbox that was full are gone for good.
        watchers = [one.watcher for one in self.watchers if TELEMETRY in one.watcher.types]
        for agent in self.agents:
            agent.send()
            await until(partial(_seen, agent, watchers), PATIENCE, f"for samples:\n{self.logs()}\n{self.book.faults}")

    async def check(self) -> None:
        """Fails if anything was lost, repeated, misplaced or not told."""
        await self.settled()
        self.book.check([one.watcher for one in self.subscribers], TELEMETRY)
        for sender in self.senders:
            sender.stop()
        for subscriber in self.subscribers:
            subscriber.leave()
        for node in self.nodes:
            assert await node.stop() in (0, -15), node.output
            assert "Traceback" not in node.output, node.output
        assert self.book.faults == [], "\n".join(self.book.faults)
        for agent in self.agents:
            file = self.directory / f"{'one' if agent.node is self.nodes[0] else 'two'}.db"
            with closing(sqlite3.connect(file)) as store:
                query = "SELECT count(DISTINCT metrics) FROM samples JOIN agents ON agents.id = agent WHERE name = ?"
                ((stored,),) = store.execute(query, (agent.name,)).fetchall()
            assert stored == agent.acknowledged == agent.number
        self._report()

    def _report(self) -> None:
        """Writes the figures where the environment says."""
        if path := os.environ.get("NEXUS_RELIABILITY"):
            watchers = [one.watcher for one in self.subscribers]
            samples = sum(agent.acknowledged for agent in self.agents)
            events = sum(map(len, self.book.acknowledged.values())) - samples
            figures = {
                "events acknowledged": events,
                "refused": self.book.refused,
                "samples acknowledged": samples,
                "delivered": sum(watcher.events for watcher in watchers),
                "announcements told missing later": self.book.unannounced,
                "gaps told": sum(watcher.gaps for watcher in watchers),
                "returns without a gap": sum(watcher.recoveries for watcher in watchers),
                "ready after": [round(seconds, 2) for seconds in self.ready_after],
            }
            test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0].rpartition("::")[2]
            line = json.dumps({"test": test} | figures) + "\n"
            with Path(path).open("a") as file:
                file.write(line)

    def logs(self) -> str:
        return "\n".join(node.output[-3000:] for node in self.nodes)

    def discard(self) -> None:
        if self._load.running:
            self._load.stop()
        for sender in self.senders:
            sender.stop()
        for subscriber in self.subscribers:
            subscriber.leave()
        for node in self.nodes:
            node.discard()


def _seen(agent: Agent, watchers: Sequence[Watcher]) -> bool:
    return all(watcher.last.get((TELEMETRY, agent.name)) == agent.number for watcher in watchers)


Make = Callable[..., Fleet]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Make]:
    """Makes a fleet on a bus, with the load of the long form or a light one."""
    made: list[Fleet] = []

    def make(bus: str, env: dict[str, str] | None = None, seed: int = 1) -> Fleet:
        samples, events = (2000, 200) if LONG else (200, 100)
        made.append(Fleet(tmp_path, bus, samples, events, env, seed))
        return made[-1]

    yield make
    for one in made:
        one.discard()


def times(long: int, short: int) -> int:
    return long if LONG else short
