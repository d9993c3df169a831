"""The agents of all nodes over HTTP, and who may take the place of one on another node."""

from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_twisted

from nexus_tw.model.settings import Role
from nexus_tw.model.times import parse_millis
from tests.node import Nodes, until, with_roles
from tests.transport.http.test_administration import Pair, ask
from tests.transport.http.test_administration import pair as pair
from tests.transport.http.test_administration import redis as redis


def recent(text: str) -> bool:
    return abs(time.time() - parse_millis(text, "time") / 1000) < 60


async def facts(node: Any, agent_id: str) -> dict[str, Any]:
    answer = await ask(node, "GET", f"agents/{agent_id}")
    assert answer.status == 200, answer.body
    known: dict[str, Any] = answer.json
    return known


@pytest_twisted.ensureDeferred
async def test_an_agent_is_told_by_every_node_until_it_is_offline_and_then_too(pair: Pair) -> None:
    agent = await pair.two.client("a-token")
    await agent.ask(type="register", commands=["restart", "deploy"], agentId="x.1")
    known = await facts(pair.one, "x.1")
    assert known["lastTelemetry"] is None
    await agent.ask(type="telemetry", agentId="x.1", metrics={"load": 1})
    for node in (pair.one, pair.two):
        known = await facts(node, "x.1")
        assert (await ask(node, "GET", "agents")).json == {"agents": [known], "next": None}
        assert recent(known.pop("since")) and recent(known.pop("lastTelemetry"))
        assert known == {
            "agentId": "x.1",
            "status": "online",
            "node": pair.two.server.realms["nexus"].fleet.node,
            "address": "127.0.0.1",
            "commands": ["deploy", "restart"],
        }
    agent.drop()
    while (await facts(pair.one, "x.1"))["status"] == "online":
        pass
    for node in (pair.one, pair.two):
        known = await facts(node, "x.1")
        assert recent(known.pop("since"))
        assert known == {
            "agentId": "x.1",
            "status": "offline",
            "node": None,
            "address": None,
            "commands": [],
            "lastTelemetry": None,
        }
    missing = await ask(pair.one, "GET", "agents/x.2")
    assert (missing.status, missing.json["code"]) == (404, "not_found")
    assert (await ask(pair.one, "GET", "agents/a%20b")).status == 404


@pytest_twisted.ensureDeferred
async def test_the_list_is_searched_sorted_and_comes_in_pages(pair: Pair) -> None:
    for node, names in ((pair.one, ("x.1", "x.4")), (pair.two, ("x.2", "x.3", "a"))):
        agent = await node.client("a-token")
        for name in names:
            await agent.ask(type="register", commands=[], agentId=name)

    async def listed(query: str) -> list[str]:
        seen: list[str] = []
        cursor = ""
        while True:
            answer = await ask(pair.one, "GET", f"agents?limit=2&{query}{cursor}")
            assert answer.status == 200, answer.body
            seen += [row["agentId"] for row in answer.json["agents"]]
            if answer.json["next"] is None:
                return seen
            cursor = f"&cursor={answer.json['next']}"

    assert await listed("") == ["a", "x.1", "x.2", "x.3", "x.4"]
    assert await listed("sort=-agentId&q=x.") == ["x.4", "x.3", "x.2", "x.1"]
    assert await listed("q=*") == ["a"] and await listed("q=x.*&status=online") == ["x.1", "x.2", "x.3", "x.4"]
    by_age = await listed("sort=since")
    assert sorted(by_age) == ["a", "x.1", "x.2", "x.3", "x.4"] and await listed("sort=-since") == by_age[::-1]
    assert await listed("status=offline") == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("status=away", "status"),
        ("status=online&status=offline", "status"),
        ("sort=node", "sort"),
        ("sort=--since", "sort"),
        ("q=x*", "q"),
        (f"q={'x' * 256}", "q"),
        ("limit=0", "limit"),
        ("cursor=%ff", "cursor"),
    ],
)
async def test_a_wrong_parameter_is_named(nodes: Nodes, query: str, member: str) -> None:
    answer = await ask(await nodes(), "GET", f"agents?{query}")
    assert (answer.status, answer.json["code"]) == (400, "invalid_message")
    assert f"{member}: " in answer.json["detail"] or f"'{member}'" in answer.json["detail"], answer.json


@pytest_twisted.ensureDeferred
async def test_a_client_sees_the_agents_that_it_may_read(nodes: Nodes) -> None:
    settings = with_roles(
        agent=Role(register=("*",), telemetry=("**",)),
        reader=Role(read=("x.*", "{subject}")),
        chief=Role(admin=True),
    )
    node = await nodes(settings)
    agent = await node.client()
    for name in ("reader", "x.1", "y.1"):
        await agent.ask(type="register", commands=[], agentId=name)

    async def listed(who: str) -> list[str]:
        answer = await ask(node, "GET", "agents", who=f"{who}-token")
        assert answer.status == 200, answer.body
        return [row["agentId"] for row in answer.json["agents"]]

    assert await listed("reader") == ["reader", "x.1"]
    assert await listed("chief") == ["reader", "x.1", "y.1"]
    assert (await ask(node, "GET", "agents/x.1", who="reader-token")).status == 200
    assert (await ask(node, "GET", "agents/y.1", who="chief-token")).status == 200
    for target, who in (("agents", "agent-token"), ("agents/x.1", "agent-token"), ("agents/y.1", "reader-token")):
        answer = await ask(node, "GET", target, who=who)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert (await ask(node, "GET", "agents", who=None)).status == 401


@pytest_twisted.ensureDeferred
async def test_an_agent_of_another_node_is_replaced_only_by_who_may_register_its_commands(pair: Pair) -> None:
    agent = await pair.one.client()
    await agent.ask(type="register", commands=["deploy", "x.restart"], agentId="x.1")
    realms: list[Any] = [node.server.realms["nexus"] for node in (pair.one, pair.two)]
    await until(lambda: realms[1]._registry.remote == 2)
    intruder = await pair.two.client("a-token")  # may register `*` only
    refused = await intruder.ask(type="register", commands=["deploy"], agentId="x.1")
    assert (refused["type"], refused["code"]) == ("error", "forbidden")
    assert (await agent.ask(type="ping"))["type"] == "pong"
    entitled = await pair.two.client()
    assert (await entitled.ask(type="register", commands=["deploy"], agentId="x.1"))["type"] == "registered"
    assert (await agent.closed())[0] == 4003
    entitled.drop()
    await until(lambda: not any(realm._registry.size + realm._registry.remote for realm in realms))
