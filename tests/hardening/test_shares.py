"""Resources shared by all subjects, and a subject that wants all of them: over sockets, and while the share changes."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted
from msgspec.structs import replace

from nexus_tw.model.settings import Limits, Role, Settings
from tests.node import TOKEN, Nodes, turns, with_roles

EVERYTHING = Role(publish=("**",), register=("**",), telemetry=("**",), subscribe=("**",))


def two(limits: Limits) -> Settings:
    return replace(with_roles(greedy=EVERYTHING, other=EVERYTHING), limits=limits)


@pytest_twisted.ensureDeferred
async def test_the_agents_of_one_subject_leave_room_for_others_and_come_free_with_its_connections(nodes: Nodes) -> None:
    node = await nodes(two(Limits(agents_all=8)))
    greedy, again, other = [await node.client(f"{name}-token") for name in ("greedy", "greedy", "other")]
    watcher = await node.client()
    await watcher.subscribe("agent.status")

    async def register(client: Any, agent_id: str) -> dict[str, Any]:
        reply: dict[str, Any] = await client.ask(type="register", agentId=agent_id, commands=[])
        return reply

    assert (await register(greedy, "g1"))["type"] == "registered"
    assert (await again.ask(type="telemetry", agentId="g2", metrics={"a": 1}))["type"] == "telemetry_ack"
    refused = await register(again, "g3")
    assert (refused["code"], refused["message"]) == ("limit_exceeded", "More than 2 agents of one subject (limits.share)")
    assert (await again.ask(type="telemetry", agentId="g4", metrics={"a": 1}))["type"] == "telemetry_ack", "it is stored"
    assert (await register(other, "o1"))["type"] == "registered"
    assert [(await watcher.expect("event"))["data"]["agentId"] for _ in range(3)] == ["g1", "g2", "o1"], "but not seen"
    assert node.metrics.shares_refused == {"agents": 2}
    greedy.drop()
    assert (await watcher.expect("event"))["data"]["status"] == "offline"
    await turns()
    assert (await register(again, "g3"))["type"] == "registered"


@pytest_twisted.ensureDeferred
async def test_a_reload_changes_the_share_of_whoever_is_there(nodes: Nodes) -> None:
    settings = two(Limits(share=0.0001, agents_all=10000))
    node = await nodes(settings)
    client = await node.client("greedy-token")

    async def publish(key: str) -> None:
        body = json.dumps({"eventType": "a", "data": 1}).encode()
        response = await node.http("POST", "/api/v1/events", "greedy-token", body, [f"Idempotency-Key: {key}"])
        assert response.status == 200

    for key in ("one", "two", "one"):  # there is room for one key
        await publish(key)
    assert node.metrics.events_published == 3
    assert (await client.ask(type="register", agentId="a1", commands=[]))["type"] == "registered"
    assert (await client.ask(type="register", agentId="a2", commands=[]))["code"] == "limit_exceeded"

    node.server.reconfigure(replace(settings, limits=Limits(share=0.0002, agents_all=10000)), TOKEN)
    before = node.metrics.events_published
    for key in ("three", "four", "three"):
        await publish(key)
    assert node.metrics.events_published == before + 2
    assert (await client.ask(type="register", agentId="a2", commands=[]))["type"] == "registered"
