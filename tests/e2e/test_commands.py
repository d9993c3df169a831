"""Commands across the death of the process that drives them: on one node with a store, and on two nodes with one Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from tests.e2e.agent import Agent, connect
from tests.e2e.server import NexusServer


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
    ask(caller, "done", "b")
    refused = await caller.answer("done")
    assert (refused["code"], refused["message"]) == (
        "invalid_message",
        "Invalid message format: commandId: was used with another target",
    )
    assert "Traceback" not in server.output
