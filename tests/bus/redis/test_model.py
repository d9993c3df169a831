"""The history against a plain list of what was published, while Redis loses keys, everything, or its end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

from nexus_tw.model.errors import NexusError
from nexus_tw.model.positions import Position
from nexus_tw.model.settings import History
from tests.bus.recording import until
from tests.bus.redis.keeping import Keeper, texts
from tests.redis_server import RedisServer, running

TYPES = ("a", "b", "c")
STEPS = 150


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


class World:
    """Nodes on one Redis, and every event that Redis still knows of, in order; `held` are positions that clients hold."""

    def __init__(self, redis: RedisServer, seed: int) -> None:
        self.redis = redis
        self.chance = random.Random(seed)
        self.history = History(count=40, bytes=2000, total=6000)
        self.nodes = [Keeper(redis.url, name, self.history) for name in ("one", "two")]
        self.line: dict[str, list[tuple[Position, bytes]]] = {name: [] for name in TYPES}
        self.held: list[tuple[str, Position, bool]] = []  # and whether the event at it is lost
        self.copy: Any = None
        self.number = 0
        self.verdicts = {True: 0, False: 0}

    async def links(self) -> None:
        """Every node has a link again, and nobody's is from before."""
        seen = [len(node.heard.changes) for node in self.nodes]
        self.redis.ask("CLIENT", "KILL", "TYPE", "pubsub")
        for node, before in zip(self.nodes, seen, strict=True):
            await until(lambda node=node, before=before: len(node.heard.changes) > before)  # type: ignore[misc]
            await until(lambda node=node: node.bus.available)  # type: ignore[misc]

    async def publish(self) -> None:
        node, name = self.chance.choice(self.nodes), self.chance.choice(TYPES)
        count = self.chance.choice([1, 1, 3, 25])
        data = [b'"%0*d"' % (self.chance.choice([4, 60]), self.number + place) for place in range(count)]
        self.number += len(data)
        for one, at in zip(data, await node.burst(name, *data), strict=True):
            if not isinstance(at, NexusError):
                self.line[name].append((at, one))
                if self.chance.random() < 0.2:
                    self.held.append((name, at, False))

    async def forget(self) -> None:
        """One key goes, as by eviction."""
        keys = [key for key in self.redis.ask("KEYS", "nexus:*") if key not in (b"nexus:timeline", b"nexus:run")]
        if keys:
            self.redis.ask("DEL", self.chance.choice(sorted(keys)))

    async def save(self) -> None:
        self.copy = (
            [(key, self.redis.ask("DUMP", key), self.redis.ask("PTTL", key)) for key in self.redis.ask("KEYS", "*")],
            {name: list(events) for name, events in self.line.items()},
        )

    async def load(self) -> None:
        """Another process with an older copy takes over: the end is lost."""
        if self.copy is None:
            return
        keys, line = self.copy
        self.redis.ask("FLUSHALL")
        for key, dump, rest in keys:
            if rest != -2:
                self.redis.ask("RESTORE", key, str(max(rest, 0)), dump)
        self.redis.ask("SET", "nexus:run", f"another {self.number}")
        gone = {at for name in TYPES for at, _ in self.line[name][len(line[name]) :]}
        self.held = [(name, at, lost or at in gone) for name, at, lost in self.held]
        self.line = {name: list(events) for name, events in line.items()}
        await self.links()

    async def restart(self) -> None:
        """Another process that has lost nothing."""
        self.redis.ask("SET", "nexus:run", f"another {self.number}")
        await self.links()

    async def flush(self) -> None:
        self.redis.ask("FLUSHALL")
        self.held = [(name, at, True) for name, at, _ in self.held]
        self.line = {name: [] for name in TYPES}
        self.copy = None
        await self.links()

    async def check(self) -> None:
        """Check that recovered events are exactly those after the position, and that lost ones are never recovered."""
        held = self.held[-30:]
        answers = [await node.read_all(*((name, at) for name, at, _ in held)) for node in self.nodes]
        assert answers[0] == answers[1]
        for (name, at, lost), missed in zip(held, answers[0], strict=True):
            recovered = texts(missed)
            self.verdicts[recovered is not None] += 1
            if recovered is not None:
                assert not lost
                place = next(place for place, (one, _) in enumerate(self.line[name]) if one == at)
                after = self.line[name][place + 1 :]
                assert recovered == [data for _, data in after]
                assert missed.top == (after[-1][0] if after else at)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_recovered_wrongly_whatever_redis_loses(redis: RedisServer, seed: int) -> None:
    world = World(redis, seed)
    for node in world.nodes:
        await node.start()
    try:
        steps = [world.publish] * 12 + [world.check] * 4 + [world.forget, world.save, world.load, world.restart]
        for number in range(STEPS):
            await (world.flush() if number == STEPS // 2 else world.chance.choice(steps)())
        await world.check()
        assert min(world.verdicts.values()) > 20
    finally:
        for node in world.nodes:
            await node.bus.stop()
