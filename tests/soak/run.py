"""Two nodes on one Redis, among clients that come and go."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater

from tests.client import clock
from tests.e2e.server import NexusServer
from tests.redis_server import RedisServer
from tests.soak.counts import STANDING, Holding, holding, keys_of, memory_of, slope
from tests.soak.visits import Visits

SAMPLE = 5.0  # s between looks at the memory
SPARE = {"timers": 5}  # more than before, as some are there now and then
LEAVING = 90.0  # s for everything to come to rest after the last client has left
# Small bounds for what is kept on purpose, so that they are reached before the first count.
BOUNDS = {
    "NEXUS_LIMITS__COMMANDS": "2000",
    "NEXUS_LIMITS__PENDING": "2000",
    "NEXUS_LIMITS__SHARE": "1",
    "NEXUS_HISTORY__COUNT": "200",
    "NEXUS_HISTORY__AGE": "60",
}


@dataclass(frozen=True)
class Rest:
    """What there is while no client is connected: of each node, and the keys in Redis."""

    nodes: list[Holding]
    keys: int


@dataclass(frozen=True)
class Figures:
    before: Rest
    after: Rest
    growth: list[float]  # bytes of memory by which each node grew in a minute, in the second half
    done: Counter[str]
    tracebacks: int

    def faults(self, keys: int, growth: float) -> list[str]:
        """Return what is left that should not be; `keys` more keys in Redis and `growth` bytes a minute are allowed."""
        found = []
        for number, (before, after) in enumerate(zip(self.before.nodes, self.after.nodes, strict=True)):
            if after.descriptors > before.descriptors + 2:
                found.append(f"node {number} has {after.descriptors} descriptors, and had {before.descriptors}")
            found += [
                f"node {number} has {after.gauges[name]:g} {name}, and had {before.gauges[name]:g}"
                for name in STANDING
                if after.gauges[name] > before.gauges[name] + SPARE.get(name, 0)
            ]
            if self.growth[number] > growth:
                found.append(f"node {number} grew by {self.growth[number] / 1024:.0f} KiB a minute")
        if self.after.keys > self.before.keys + keys:
            found.append(f"Redis has {self.after.keys} keys, and had {self.before.keys}")
        if self.tracebacks:
            found.append(f"{self.tracebacks} tracebacks in the logs")
        return found


class Soak:
    def __init__(self, directory: Path, clients: int, agents: int, seed: int, say: Callable[[str], None]) -> None:
        self._redis = RedisServer()
        self._directory = directory
        self._clients = clients
        self._agents = agents
        self._chance = random.Random(seed)
        self._say = say
        self.nodes: list[NexusServer] = []

    async def run(self, warm: float, minutes: float) -> Figures:
        """Churn for `warm` minutes, count, churn for `minutes`, and count again."""
        self._redis.start()
        self.nodes = [
            NexusServer(self._directory, "--bus", self._redis.url, name=name, env=BOUNDS) for name in ("one", "two")
        ]
        for node in self.nodes:
            await node.start()
        visits = Visits(self.nodes, self._agents, self._chance)
        await self._churn(visits, warm * 60)
        before = await self._rest()
        visits.done.clear()
        points = await self._churn(visits, minutes * 60)
        after = await self._rest()
        late = [(at, sizes) for at, sizes in points if at >= minutes * 30]
        growth = [
            60 * slope([(at, sizes[number]) for at, sizes in late]) for number in range(len(self.nodes))
        ]
        tracebacks = sum(node.output.count("Traceback") for node in self.nodes)
        return Figures(before, after, growth, visits.done, tracebacks)

    async def _churn(self, visits: Visits, seconds: float) -> list[tuple[float, list[int]]]:
        began = time.monotonic()
        points: list[tuple[float, list[int]]] = []

        def look() -> None:
            at = time.monotonic() - began
            points.append((at, [memory_of(node.pid) for node in self.nodes]))
            sizes = ", ".join(f"{size >> 20} MiB" for size in points[-1][1])
            self._say(f"{at:5.0f} s: {sizes}; {sum(visits.done.values())} visits and commands")

        looking = LoopingCall(look)
        looking.clock = clock
        looking.start(SAMPLE)

        def going() -> bool:
            return time.monotonic() - began < seconds

        try:
            await gatherResults([ensureDeferred(visits.forever(going)) for _ in range(self._clients)], consumeErrors=True)
        finally:
            looking.stop()
        return points

    async def _rest(self) -> Rest:
        """Return what there is once all clients have left and what they caused has ended."""
        end = time.monotonic() + LEAVING
        while True:
            now = [await holding(node) for node in self.nodes]
            quiet = all(one.gauges["connections"] == 0 and one.gauges["commands_open"] == 0 for one in now)
            if quiet or time.monotonic() > end:
                break
            await deferLater(clock, 1)
        # Grace of agents, ends of timers of connections, beats.
        await deferLater(clock, 10)
        return Rest([await holding(node) for node in self.nodes], keys_of(self._redis))

    async def stop(self) -> None:
        for node in self.nodes:
            await node.stop()

    def discard(self) -> None:
        for node in self.nodes:
            node.discard()
        self._redis.close()
