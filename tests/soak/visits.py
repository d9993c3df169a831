"""Clients that come, do something, and leave: cleanly, or without a word."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from nexus_client.errors import NexusError
from nexus_client.twisted import Nexus
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.client import clock
from tests.e2e.server import NexusServer
from tests.reliability.line import Line, Message, connected

TYPES = [f"soak.type{number}" for number in range(40)]
PATTERNS = ["soak.*", "soak.**", "*.type1", "telemetry.received", "agent.status", "task.updated"]
LONGEST = 3.0  # s of one visit


class Visits:
    """Makes visits to nodes that may change; `done` counts what came of them."""

    def __init__(self, nodes: Sequence[NexusServer], agents: int, chance: random.Random) -> None:
        """Agents have the ids `soak-0` to `soak-{agents - 1}`."""
        self.done: Counter[str] = Counter()
        self._nodes = nodes
        self._chance = chance
        self._agents = [f"soak-{number}" for number in range(agents)]

    async def forever(self, going: Callable[[], bool]) -> None:
        """Make one visit after the other as long as it is `going`."""
        visits = (self._agent, self._agent, self._watcher, self._caller, self._publisher, self._stranger)
        while going():
            visit = self._chance.choice(visits)
            try:
                await visit()
                self.done[visit.__name__.strip("_")] += 1
            except NexusError as error:
                self.done[f"{type(error).__name__}: {error}"[:60]] += 1

    def _client(self, agent: str | None = None) -> Nexus:
        node = self._chance.choice(self._nodes)
        return Nexus(clock, node.http, token=node.token, agent=agent)

    async def _stay(self) -> None:
        await deferLater(clock, self._chance.uniform(0.05, LONGEST))

    async def _agent(self) -> None:
        client = self._client(self._chance.choice(self._agents))

        @client.command("soak.work")
        async def work(call: Any, seconds: float = 0) -> dict[str, Any]:
            call.progress({"seconds": seconds})
            await deferLater(clock, seconds)
            return {"worked": seconds}

        client.startService()
        try:
            await client.connected().addTimeout(30, clock)
            for number in range(self._chance.randrange(1, 20)):
                await client.telemetry({"number": number, "x": self._chance.random()})
            await self._stay()
        finally:
            await client.close()

    async def _watcher(self) -> None:
        client = self._client()
        client.startService()
        try:
            events = self._chance.sample(TYPES + PATTERNS, 4)
            where = {"agentId": self._chance.choice(self._agents)} if self._chance.random() < 0.5 else None
            kept = client.subscribe(events, lambda _event: None, where=where)
            dropped = client.subscribe([f"soak.own{self._chance.randrange(100)}"], lambda _event: None)
            await client.connected().addTimeout(30, clock)
            await kept.accepted().addTimeout(30, clock)
            dropped.close()
            await self._stay()
        finally:
            await client.close()

    async def _caller(self) -> None:
        client = self._client()
        client.startService()
        try:
            await client.connected().addTimeout(30, clock)
            for _ in range(self._chance.randrange(1, 8)):
                await self._call(client)
        finally:
            await client.close()

    async def _call(self, client: Nexus) -> None:
        chance = self._chance
        agents = chance.sample(self._agents, 3)
        target: Any = agents if chance.random() < 0.2 else agents[0]
        parameters = {"seconds": chance.choice((0, 0, 0.1))}
        waiting: Deferred[Any] = client.call(
            "soak.work", parameters, target=target, timeout=2, ttl=chance.choice((0, 1)), retries=chance.choice((0, 1))
        )
        if chance.random() < 0.1:
            clock.callLater(0.05, waiting.cancel)
        try:
            await waiting
            self.done["commands completed"] += 1
        except Exception as error:  # each way to end is one of those that are counted
            self.done[f"commands: {getattr(error, 'code', None) or type(error).__name__}"] += 1

    async def _publisher(self) -> None:
        client = self._client()
        client.startService()
        try:
            await client.connected().addTimeout(30, clock)
            for _ in range(20):
                await client.publish(self._chance.choice(TYPES), {"text": "x" * self._chance.randrange(300)})
        finally:
            await client.close()

    async def _stranger(self) -> None:
        """Registers, subscribes and commands, then is gone in the midst of all of it."""
        node = self._chance.choice(self._nodes)
        agent = self._chance.choice(self._agents)
        arrived: list[Message] = []
        line: Line = await connected(node.port, node.token, arrived.append, _nothing, patience=30)
        events = self._chance.sample(TYPES + PATTERNS, 3)
        line.send({"type": "subscribe", "events": events, "filters": {"text": {"prefix": "x"}}})
        line.send({"type": "register", "commands": ["soak.work"], "agentId": agent})
        line.send({"type": "telemetry", "agentId": agent, "metrics": {"x": 1}})
        target = self._chance.choice(self._agents)
        line.send({"type": "command", "command": "soak.work", "target": target, "ttl": 1, "timeout": 2})
        line.send({"type": "no such message"})
        await deferLater(clock, self._chance.uniform(0, 0.5))
        line.drop()


def _nothing() -> None:
    """The node ended the connection: 4003, if another one took the agent's id."""
