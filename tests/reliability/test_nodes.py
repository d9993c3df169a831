"""Nodes die, stand still, and lose Redis, while commands are given to agents that come back to whichever node is there."""

from __future__ import annotations

import mmap
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from tests.bus.gate import Gate
from tests.client import clock
from tests.e2e.nginx import Nginx
from tests.e2e.server import ROOT, until
from tests.redis_server import RedisServer, running
from tests.reliability.clients import later
from tests.reliability.crew import PATIENCE, TOKEN, Make
from tests.reliability.crew import crew as crew
from tests.reliability.fleet import times
from tests.reliability.line import Message, connected
from tests.reliability.test_pauses import CLOCK


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    yield from running()


@pytest_twisted.ensureDeferred
async def test_nodes_are_killed_one_after_the_other(redis: RedisServer, crew: Make) -> None:
    one = crew(redis.url)
    await one.start()
    one.load()
    for _ in range(times(20, 2)):
        await one.under_load(times(200, 40))
        node = one.chance.choice(one.nodes)
        await node.kill()
        await later(one.chance.uniform(0, 3))
        node.launch()
        await one.ready(node)
    await one.present()
    await one.under_load(times(200, 40))
    await one.check()


@pytest_twisted.ensureDeferred
async def test_an_answer_that_a_node_did_not_read_before_it_was_killed_is_not_lost(redis: RedisServer, crew: Make) -> None:
    """The command has `retries`: its agent, on another node, would get it again."""
    one = crew(redis.url)
    driver, second, third = one.nodes
    for node in one.nodes:
        node.launch()
    for node in one.nodes:
        await one.ready(node)
    given: list[Message] = []
    told: list[Message] = []
    seen: list[Message] = []
    agent = await connected(third.port, TOKEN, given.append, nothing)
    agent.send({"type": "register", "commands": ["work"], "agentId": "a"})
    await until(lambda: given, PATIENCE, "for the registration")
    watcher = await connected(second.port, TOKEN, seen.append, nothing)
    watcher.send({"type": "subscribe", "events": ["task.updated"]})
    await until(lambda: seen, PATIENCE, "for the subscription")
    command = {"type": "command", "command": "work", "commandId": "c", "target": "a", "ttl": 30, "retries": 2}
    caller = await connected(driver.port, TOKEN, told.append, nothing)
    caller.send(command)
    await until(lambda: given[-1]["type"] == "command", PATIENCE, "for the command")
    driver.signal(signal.SIGSTOP)
    agent.send({"type": "command_result", "commandId": "c", "status": "success", "data": {"by": "a"}})
    # The node answers in order.
    agent.send({"type": "ping"})
    await until(lambda: given[-1]["type"] == "pong", PATIENCE, "for the answer to be taken")
    await driver.kill()
    caller = await connected(second.port, TOKEN, told.append, nothing)
    caller.send(command)
    await until(lambda: told, PATIENCE, f"for the result:\n{one.logs()}")
    assert told[0]["data"]["result"] == {"by": "a"}, told
    assert [message["attempt"] for message in given if message["type"] == "command"] == [1]

    def states() -> list[str]:
        return [message["data"]["status"] for message in seen if message["type"] == "event"]

    await until(lambda: "completed" in states(), PATIENCE, "for its announcement")
    # It may have waited until the driver knew the agent.
    assert [state for state in states() if state != "queued"] == ["sent", "completed"]
    for line in (agent, watcher, caller):
        line.drop()
    for node in (second, third):
        assert await node.stop() in (0, -15) and "Traceback" not in node.output, node.output


def nothing() -> None:
    pass


@pytest_twisted.ensureDeferred
async def test_three_nodes_behind_nginx_are_restarted_in_turn(redis: RedisServer, crew: Make, tmp_path: Path) -> None:
    """Nobody misses an event, and no command is lost."""
    one = crew(redis.url, env={"NEXUS_DRAIN": "5"}, most=80)  # nginx.conf has a limit for one address
    front = Nginx(tmp_path, [node.port for node in one.nodes])
    context = optionsForClientTLS("localhost", trustRootFromCertificates([Certificate.loadPEM(front.authority.read_bytes())]))
    one.ways[:] = [wrapClientTLS(context, TCP4ClientEndpoint(clock, "127.0.0.1", front.port))]
    try:
        await front.start()
        await one.start()
        one.load()
        for node in one.nodes:
            await one.under_load(times(200, 40))
            assert await node.stop() in (0, -15), node.output
            node.launch()
            await one.ready(node)
            await one.under_load(times(200, 40))
        await one.check()
        assert [guard.lookout.gaps for guard in one.guards] == [0, 0]
    finally:
        one.discard()
        front.discard()


@pytest_twisted.ensureDeferred
async def test_a_node_that_stands_still_is_given_up_and_notices(redis: RedisServer, crew: Make) -> None:
    one = crew(redis.url)
    await one.start()
    one.load()
    await one.under_load(40)
    one.nodes[0].signal(signal.SIGSTOP)
    await later(times(30, 9))
    one.nodes[0].signal(signal.SIGCONT)
    await one.ready(one.nodes[0])
    await one.under_load(times(400, 80))
    await one.check()


@pytest_twisted.ensureDeferred
async def test_a_node_is_cut_off_from_redis_alone(redis: RedisServer, crew: Make) -> None:
    gate = Gate(redis.port)
    await gate.open()
    try:
        one = crew(redis.url, redis.url, gate.url)
        await one.start()
        one.load()
        for _ in range(times(5, 1)):
            await one.under_load(40)
            gate.silent = True
            await later(times(12, 9))
            gate.silent = False
            await one.ready(one.nodes[2])
        await one.under_load(40)
        await one.check()
    finally:
        one.discard()
        await gate.close()


@pytest_twisted.ensureDeferred
async def test_redis_is_restarted_and_flushed(redis: RedisServer, crew: Make) -> None:
    one = crew(redis.url)
    await one.start()
    one.load()
    for _ in range(times(5, 1)):
        await one.under_load(40)
        redis.kill()
        redis.start()
        for node in one.nodes:
            await one.ready(node)
        await one.under_load(40)
        assert redis.ask("FLUSHALL") == b"OK"
    await one.under_load(40)
    await one.check()


@pytest_twisted.ensureDeferred
async def test_the_clock_of_the_nodes_is_set_by_an_hour(redis: RedisServer, crew: Make, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    (tmp_path / "offset").write_bytes(bytes(8))
    one = crew(redis.url, env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "CLOCK_OFFSET": str(tmp_path / "offset")})
    with (tmp_path / "offset").open("r+b") as file, mmap.mmap(file.fileno(), 8) as offset:
        await one.start()
        one.load()
        for seconds in (3600.0, 0.0, -3600.0, 0.0):
            struct.pack_into("d", offset, 0, seconds)
            await one.under_load(times(200, 40))
        await one.check()
