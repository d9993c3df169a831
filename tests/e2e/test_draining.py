"""A node of two that is stopped in good order: its agents and commands go to the other one, and nobody hears of that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from tests.e2e.agent import Agent, connect
from tests.e2e.server import NexusServer
from tests.e2e.test_commands import ask, executing, outcomes
from tests.redis_server import RedisServer

GRACE = 3
BYE = (1000, "Server shutting down")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[NexusServer]]:
    """Two nodes on one Redis; nothing but that is started."""
    redis = RedisServer()
    redis.start()
    env = {"NEXUS_PRESENCE__GRACE": str(GRACE), "NEXUS_DRAIN": "2"}
    nodes = [NexusServer(tmp_path, "--bus", redis.url, name=name, env=env) for name in ("one", "two")]
    yield nodes
    for node in nodes:
        node.discard()
    redis.close()


async def watching(server: NexusServer) -> Agent:
    watcher = await connect(server.ws, server.token)
    watcher.tell(type="subscribe", events=["agent.status"], id="s")
    await watcher.answer("s")
    return watcher


async def change(watcher: Agent) -> tuple[str, str]:
    """Return the next change of a status that the watcher is told."""
    event = await watcher.next("event", 20)
    return event["data"]["agentId"], event["data"]["status"]


def result(agent: Agent, command_id: str) -> None:
    agent.tell(type="command_result", commandId=command_id, status="success", data=command_id)


@pytest_twisted.ensureDeferred
async def test_agents_and_commands_go_to_the_other_node_while_one_drains(pair: list[NexusServer]) -> None:
    one, two = pair
    await one.start()
    await two.start()
    agent, here = await executing(one, "a"), await connect(one.ws, one.token)
    there = await connect(two.ws, two.token)
    for name, target, more in (("again", "a", {"retries": 1}), ("lost", "a", {}), ("waits", "b", {"ttl": 60})):
        ask(here, name, target, **more)
        ask(there, name, target, **more)
    assert [(await agent.next("command"))["commandId"] for _ in range(2)] == ["again", "lost"]

    stopping = ensureDeferred(one.stop())
    assert await agent.closed == await here.closed == BYE
    agent, other = await executing(two, "a"), await executing(two, "b")
    again, waits = await agent.next("command", 20), await other.next("command", 20)
    assert (again["commandId"], again["attempt"]) == ("again", 2)
    assert (waits["commandId"], waits["attempt"]) == ("waits", 1)
    result(agent, "again")
    result(other, "waits")
    assert await outcomes(there, "again", "lost", "waits") == {"again": "again", "lost": "agent_lost", "waits": "waits"}
    assert await stopping in (0, -15), one.output
    ask(there, "later", "a")
    assert (await agent.next("command"))["commandId"] == "later"
    result(agent, "later")
    assert await outcomes(there, "later") == {"later": "later"}
    assert "Traceback" not in one.output + two.output


@pytest_twisted.ensureDeferred
async def test_an_agent_that_moves_while_its_node_drains_is_never_offline(pair: list[NexusServer]) -> None:
    one, two = pair
    await one.start()
    await two.start()
    watcher = await watching(two)
    movers = [await executing(one, f"mover-{number}") for number in range(3)]
    gone, leaver = await executing(one, "gone"), await executing(two, "leaver")
    told = [await change(watcher) for _ in range(5)]
    assert sorted(told) == [(name, "online") for name in ("gone", "leaver", "mover-0", "mover-1", "mover-2")]

    assert await one.stop() in (0, -15), one.output
    for number, mover in enumerate(movers):
        assert await mover.closed == BYE
        movers[number] = await executing(two, f"mover-{number}")
    assert await gone.closed == BYE
    assert await change(watcher) == ("gone", "offline")
    await leaver.leave()
    # It has its grace after the movers would have had theirs.
    assert await change(watcher) == ("leaver", "offline")
    for number, mover in enumerate(movers):
        ask(watcher, f"c-{number}", f"mover-{number}")
        assert (await mover.next("command"))["commandId"] == f"c-{number}"
    assert "Traceback" not in one.output + two.output
