"""Acknowledged telemetry is in the database: after a kill, and if the disk or another process interferes."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from nexus_client.errors import Stopped
from nexus_client.twisted import Nexus
from twisted.internet.defer import Deferred, gatherResults

from tests.e2e.agent import Agent, connect
from tests.e2e.clients import PATIENCE, Clients
from tests.e2e.server import NexusServer, clock, until

CONNECTIONS = 5
CLIENTS = 2
AHEAD = 50  # samples of a connection that wait for their acknowledgement at any time
ENOUGH = 2000  # acknowledgements until the process is killed
ROUNDS = 10 if os.environ.get("NEXUS_TEST_LONG") == "1" else 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NexusServer]:
    server = NexusServer(tmp_path, env={"NEXUS_STORE": f"sqlite:{tmp_path / 'nexus.db'}"})
    yield server
    server.discard()


def stored(directory: Path) -> set[tuple[str, int]]:
    """Agent and number of every sample in the file."""
    with closing(sqlite3.connect(directory / "nexus.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT name, metrics FROM samples JOIN agents ON agents.id = samples.agent").fetchall()
    samples = [(name, json.loads(metrics)["number"]) for name, metrics in rows]
    assert len(samples) == len(set(samples)), "a sample is there twice"
    return set(samples)


class Load:
    """Agents that send numbered samples, always so many ahead of the acknowledgements."""

    def __init__(self, agents: list[Agent], round_: int) -> None:
        self.acknowledged: set[tuple[str, int]] = set()
        self.enough: Deferred[None] = Deferred()
        self._round = round_
        self._agents = agents
        for index in range(len(agents)):
            for number in range(AHEAD):
                self._send(index, number)

    def _send(self, index: int, number: int) -> None:
        name = self._name(index)
        self._agents[index].tell(type="telemetry", id=number, agentId=name, metrics={"number": number})

    def _name(self, index: int) -> str:
        return f"agent-{self._round}-{index}"

    async def run(self, index: int) -> None:
        """Goes on until the connection is lost, and everything that came before that is read."""
        agent = self._agents[index]
        with suppress(ConnectionError):
            while True:
                number = (await agent.next("telemetry_ack"))["id"]
                assert (self._name(index), number) not in self.acknowledged, "acknowledged twice"
                self.acknowledged.add((self._name(index), number))
                if len(self.acknowledged) == ENOUGH:
                    self.enough.callback(None)
                if agent.over is None:
                    self._send(index, number + AHEAD)


class Fleet:
    """Clients that measure on, whether there is a server or not: always so many samples ahead of what is stored."""

    def __init__(self) -> None:
        self.stored: set[tuple[str, int]] = set()
        self._clients: list[Nexus] = []

    def _measure(self, index: int, number: int) -> None:
        name = f"client-{index}"

        def stored(_: None) -> None:
            self.stored.add((name, number))
            self._measure(index, number + AHEAD)

        measured = self._clients[index].telemetry(agent=name, number=number)
        measured.addCallback(lambda recorded: recorded.stored()).addCallbacks(stored, lambda failure: failure.trap(Stopped))

    async def gather(self, server: NexusServer, clients: Clients) -> None:
        """Let all connect to the server, which has just started; wait until it has stored more."""
        before = len(self.stored)
        for client in self._clients:
            client.woke()
            await client.connected().addTimeout(PATIENCE, clock)
        while (index := len(self._clients)) < CLIENTS:
            self._clients.append(await clients.connect(server))
            for number in range(AHEAD):
                self._measure(index, number)
        await until(lambda: len(self.stored) > before)


@pytest_twisted.ensureDeferred
async def test_every_sample_acknowledged_before_a_kill_is_in_the_database(
    server: NexusServer, tmp_path: Path, clients: Clients
) -> None:
    acknowledged: set[tuple[str, int]] = set()
    fleet = Fleet()
    for round_ in range(ROUNDS):
        await server.start()
        await fleet.gather(server, clients)
        load = Load([await connect(server.ws, server.token) for _ in range(CONNECTIONS)], round_)
        runs = gatherResults([Deferred.fromCoroutine(load.run(index)) for index in range(CONNECTIONS)])
        await load.enough.addTimeout(30, clock)
        await server.kill()
        await runs.addTimeout(10, clock)
        assert len(load.acknowledged) >= ENOUGH
        acknowledged |= load.acknowledged
    # Once, at the end: what reads the file before the server does would mend it, and each start is to do that by itself.
    kept = stored(tmp_path)
    assert acknowledged | fleet.stored <= kept
    for index in range(CLIENTS):
        numbers = {number for name, number in kept if name == f"client-{index}"}
        assert numbers == set(range(len(numbers))), "none was left out when they were sent again"


async def submit(agent: Agent, number: int, **metrics: Any) -> dict[str, Any]:
    """The acknowledgement of a sample, or the error."""
    agent.tell(type="telemetry", id=number, agentId="agent-001", metrics={"number": number, **metrics})
    return await agent.answer(number)


@pytest_twisted.ensureDeferred
async def test_what_may_be_kept_of_one_is_bounded_across_kills_and_restarts(tmp_path: Path) -> None:
    env = {"NEXUS_STORE": f"sqlite:{tmp_path / 'nexus.db'}", "NEXUS_LIMITS__AGENT_TELEMETRY_KEPT": "1000"}
    server = NexusServer(tmp_path, env=env)
    try:
        for number, ends in enumerate((server.kill, server.stop, server.kill)):
            await server.start()
            agent = await connect(server.ws, server.token)
            answers = [await submit(agent, 10 * number + each, filling="x" * 300) for each in range(4)]
            # Once that is answered, the counts of what was before are on the disk.
            agent.tell(type="telemetry", id=99, agentId="agent-002", metrics={"number": number})
            assert (await agent.answer(99))["type"] == "telemetry_ack"
            await ends()
            taken = [answer["type"] for answer in answers].count("telemetry_ack")
            assert taken == (3 if number == 0 else 0), answers
            assert "limits.agent_telemetry_kept" in answers[3]["message"]
        assert {name for name, _ in stored(tmp_path)} == {"agent-001", "agent-002"}
    finally:
        server.discard()


@pytest_twisted.ensureDeferred
async def test_a_locked_database_refuses_and_a_released_one_takes_again(server: NexusServer, tmp_path: Path) -> None:
    await server.start()
    agent = await connect(server.ws, server.token)
    assert (await submit(agent, 1))["type"] == "telemetry_ack"
    with closing(sqlite3.connect(tmp_path / "nexus.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refusal = await submit(agent, 2)
        assert refusal["message"] == "Telemetry submission failed: the store is locked by another process"
        assert (refusal["type"], refusal["code"], refusal["retryable"]) == ("error", "store_unavailable", True)
        other.execute("ROLLBACK")
    assert (await submit(agent, 3))["type"] == "telemetry_ack"
    await agent.leave()
    await server.stop()
    assert stored(tmp_path) == {("agent-001", 1), ("agent-001", 3)}


@pytest_twisted.ensureDeferred
async def test_a_disk_that_takes_no_more_refuses_and_one_with_room_takes_again(server: NexusServer, tmp_path: Path) -> None:
    await server.start()
    agent = await connect(server.ws, server.token)
    # No file of the process can grow past this: a full disk for one process. Its output is far shorter.
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    log = (tmp_path / "nexus.db-wal").stat().st_size
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (max(log, 64 * 1024) + 256 * 1024, unlimited[1]))
    answers = {number: await submit(agent, number, filling="x" * 60000) for number in range(12)}
    refused = {number for number, answer in answers.items() if answer["type"] == "error"}
    assert 0 < len(refused) < len(answers)
    assert 11 in refused
    for number in refused:
        assert answers[number]["code"] == "store_unavailable"
        assert answers[number]["message"].startswith("Telemetry submission failed: the store's disk ")
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
    assert (await submit(agent, 12))["type"] == "telemetry_ack"
    await agent.leave()
    await server.stop()
    assert stored(tmp_path) == {("agent-001", number) for number in range(13) if number not in refused}
