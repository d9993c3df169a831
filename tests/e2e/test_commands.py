"""Commands across the death of the process that drives them: on one node with a store, and on two nodes with one Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.web.http_headers import Headers

from tests.e2e.agent import Agent, connect
from tests.e2e.server import NexusServer
from tests.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NexusServer]:
    server = NexusServer(tmp_path)
    yield server
    server.discard()


async def executing(server: NexusServer, agent_id: str) -> Agent:
    """Return a connection that executes `deploy` as that agent."""
    agent = await connect(server.ws, server.token)
    agent.tell(type="register", commands=["deploy"], agentId=agent_id, id="r")
    assert (await agent.answer("r"))["type"] == "registered"
    return agent


def ask(caller: Agent, command_id: str, target: str, **more: Any) -> None:
    caller.tell(type="command", command="deploy", commandId=command_id, target=target, id=command_id, **more)


async def outcomes(caller: Agent, *names: str) -> dict[str, Any]:
    """Return the result of each of these commands, or the code of its error; they end in any order."""
    found: dict[str, Any] = {}
    while not found.keys() >= set(names):
        message = await caller.receive(20)
        if message["type"] == "command_result":
            found[message["id"]] = message["data"]["result"]
        elif message["type"] == "error":
            found[message["id"]] = message["code"]
    return found


async def http(server: NexusServer, method: str, path: str) -> tuple[int, Any]:
    """Return status and JSON of an answer."""
    headers = Headers({"Authorization": [f"Bearer {server.token}"]})
    answer = await treq.request(method, server.http + path, headers=headers, timeout=10, persistent=False)
    return answer.code, json.loads(await treq.content(answer))


@pytest_twisted.ensureDeferred
async def test_one_node_that_is_killed_loses_no_command_over_its_restart(server: NexusServer) -> None:
    await server.start()
    agent, caller = await executing(server, "a"), await connect(server.ws, server.token)
    ask(caller, "done", "a")
    await agent.next("command")
    agent.tell(type="command_result", commandId="done", status="success", data={"n": 1})
    assert await outcomes(caller, "done") == {"done": {"n": 1}}
    for name, more in (("lost", {}), ("again", {"retries": 1}), ("waits", {"target": "b", "ttl": 60})):
        ask(caller, name, more.pop("target", "a"), **more)  # type: ignore[arg-type]
    assert [(await agent.next("command"))["commandId"] for _ in range(2)] == ["lost", "again"]
    agent.tell(type="command_progress", commandId="lost", data=1)
    assert (await caller.next("command_progress"))["commandId"] == "lost"
    # The queued one is in the ledger as soon as a later one is answered.
    ask(caller, "nobody", "c")
    assert await outcomes(caller, "nobody") == {"nobody": "agent_offline"}

    await server.kill()
    await server.start()
    caller = await connect(server.ws, server.token)
    for name, target, more in (("done", "a", {}), ("lost", "a", {}), ("again", "a", {"retries": 1})):
        ask(caller, name, target, **more)
    ask(caller, "waits", "b", ttl=60)
    assert await outcomes(caller, "done", "lost") == {"done": {"n": 1}, "lost": "agent_lost"}
    agent, other = await executing(server, "a"), await executing(server, "b")
    again, waits = await agent.next("command"), await other.next("command")
    assert (again["commandId"], again["attempt"]) == ("again", 2)
    assert (waits["commandId"], waits["attempt"]) == ("waits", 1)
    for who, name in ((agent, "again"), (other, "waits")):
        who.tell(type="command_result", commandId=name, status="success", data=name)
        assert await outcomes(caller, name) == {name: name}
    status, told = await http(server, "GET", "/api/v1/commands/again?trail=true")
    assert status == 200
    trail = told.pop("trail")
    assert told.pop("createdAt") <= told.pop("updatedAt")
    assert told == {
        "commandId": "again",
        "command": "deploy",
        "parameters": {},
        "target": "a",
        "caller": told["caller"],
        "status": "completed",
        "attempts": 2,
        "results": [{"agentId": "a", "status": "success", "result": "again"}],
    }
    said = [(line["status"], line.get("attempt", 0), line.get("agentId")) for line in trail]
    assert said[-3:] == [("queued", 1, "a"), ("sent", 2, "a"), ("completed", 2, "a")]
    assert (await http(server, "GET", "/api/v1/commands/unknown"))[0] == 404
    assert (await http(server, "GET", "/api/v1/commands/again?trail=no"))[0] == 400
    ask(caller, "stops", "b", ttl=60)
    await other.next("command")
    assert (await http(server, "DELETE", "/api/v1/commands/stops"))[0] == 200
    assert await outcomes(caller, "stops") == {"stops": "cancelled"}
    assert (await http(server, "DELETE", "/api/v1/commands/stops"))[0] == 404
    ask(caller, "done", "b")
    refused = await caller.answer("done")
    assert (refused["code"], refused["message"]) == (
        "invalid_message",
        "Invalid message format: commandId: was used with another target",
    )
    assert "Traceback" not in server.output


@pytest_twisted.ensureDeferred
async def test_what_a_caller_was_told_is_in_the_audit_trail_though_the_process_is_killed_at_once(server: NexusServer) -> None:
    await server.start()
    agent, caller = await executing(server, "a"), await connect(server.ws, server.token)
    ask(caller, "c", "a")
    await agent.next("command")
    agent.tell(type="command_result", commandId="c", status="success", data=1)
    assert await outcomes(caller, "c") == {"c": 1}
    await server.kill()
    await server.start()
    _, told = await http(server, "GET", "/api/v1/commands/c?trail=true")
    assert [line["status"] for line in told["trail"]] == ["sent", "completed"]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[NexusServer]]:
    """Two nodes on one Redis; nothing but that is started."""
    redis = RedisServer()
    redis.start()
    nodes = [NexusServer(tmp_path, "--bus", redis.url, name=name) for name in ("one", "two")]
    yield nodes
    for node in nodes:
        node.discard()
    redis.close()


@pytest_twisted.ensureDeferred
async def test_two_nodes_have_the_same_commands_and_one_takes_over_from_the_other(pair: list[NexusServer]) -> None:
    one, two = pair
    await one.start()
    await two.start()
    # Each names its agent's callers: a command is driven by the node that took it.
    agent, here, there = await executing(one, "a"), await connect(one.ws, one.token), await connect(two.ws, two.token)
    ask(here, "both", "a", retries=1)
    assert (await agent.next("command"))["commandId"] == "both"
    ask(there, "both", "a", retries=1)
    agent.tell(type="command_progress", commandId="both", data=1)
    await here.next("command_progress")
    agent.tell(type="command_result", commandId="both", status="success", data="done")
    assert await outcomes(here, "both") == await outcomes(there, "both") == {"both": "done"}

    ask(here, "stop", "a")
    await agent.next("command")
    there.tell(type="cancel", commandId="stop", id="cancel")
    assert (await there.answer("cancel"))["code"] == "cancelled"
    assert (await agent.next("command_cancel"))["commandId"] == "stop"
    assert await outcomes(here, "stop") == {"stop": "cancelled"}

    for name, more in (("waits", {"ttl": 60}), ("again", {"retries": 1}), ("lost", {})):
        ask(here, name, "b" if name == "waits" else "a", **more)
    assert [(await agent.next("command"))["commandId"] for _ in range(2)] == ["again", "lost"]
    for name, more in (("waits", {"ttl": 60}), ("again", {"retries": 1}), ("lost", {})):
        ask(there, name, "b" if name == "waits" else "a", **more)
    await one.kill()
    assert await outcomes(there, "lost") == {"lost": "agent_lost"}
    a, b = await executing(two, "a"), await executing(two, "b")
    again, waits = await a.next("command"), await b.next("command")
    assert (again["commandId"], again["attempt"]) == ("again", 2)
    assert (waits["commandId"], waits["attempt"]) == ("waits", 1)
    a.tell(type="command_result", commandId="again", status="success", data=1)
    b.tell(type="command_result", commandId="waits", status="success", data=2)
    assert await outcomes(there, "again", "waits") == {"again": 1, "waits": 2}
    assert "Traceback" not in one.output + two.output
