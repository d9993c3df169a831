"""Limits that are each kept, multiplied: what one client can have an event be asked, whatever it combines."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from msgspec.structs import replace

from nexus_tw.model.settings import Limits, Role
from tests.client import Client
from tests.node import Node, Nodes, with_roles


async def refusals(client: Client, filters: list[dict[str, Any]]) -> int:
    """Subscribes with each of these; how many of them were refused."""
    refused = 0
    for each in filters:
        answer = await client.ask(type="subscribe", events=["bomb"], filters=each)
        if answer["type"] == "error":
            refused += 1
            assert answer["code"] == "limit_exceeded" and "filters" in answer["message"], answer
    return refused


@pytest_twisted.ensureDeferred
async def test_128_subscriptions_of_30_conditions_on_nested_paths_are_more_than_a_connection_may_have(nodes: Nodes) -> None:
    """Then an event of 64 kB, of which each is a part: it is asked no more than the filters that were taken may ask."""
    node: Node = await nodes()
    hostile, bystander = await node.client(), await node.client()
    await bystander.subscribe("bomb", "other")
    names = [".".join("a" * depth) for depth in range(1, 31)]
    filters = [{name: {"ne": f"{number}"} for name in names} for number in range(128)]
    weight = 30 * 2 + sum(range(30))
    assert await refusals(hostile, filters) == 128 - Limits().filters // weight
    data: Any = [0] * 30_000
    for _ in range(30):
        data = {"a": data}
    await hostile.ask(type="publish", eventType="bomb", data=data)
    assert [event["eventType"] for event in await bystander.heard()] == ["bomb"]
    assert [event["eventType"] for event in await hostile.heard()] == ["bomb"]
    await hostile.ask(type="unsubscribe", events=["bomb"])
    assert await refusals(hostile, filters[:3]) == 0, "what was given back can be had again"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["." * 60_000, "a." * 40 + "a", "n" * 60_000])
async def test_names_of_60000_dots_are_refused_and_cost_no_event_anything(nodes: Nodes, name: str) -> None:
    node: Node = await nodes()
    client = await node.client()
    assert await refusals(client, [{name: {"ne": 1}}, {"a": 1, name: "x"}]) == 2
    assert await refusals(client, [{"a": {"prefix": "x" * 60_000}}, {"a": {"in": ["x" * 600] * 20}}]) == 2
    await client.ask(type="publish", eventType="bomb", data={})
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_what_one_subject_may_ask_of_events_is_a_part_of_what_all_may(nodes: Nodes) -> None:
    """With as many connections as it likes; another subject still has its own."""
    everything = Role(subscribe=("**",), publish=("**",))
    settings = with_roles(hostile=everything, other=everything)
    node: Node = await nodes(replace(settings, limits=Limits(filters=60, filters_all=400)))
    filters: list[dict[str, Any]] = [{"a": {"ne": number}, "b": {"ne": number}} for number in range(15)]
    crowd = [await node.client("hostile-token") for _ in range(4)]
    assert [await refusals(client, filters) for client in crowd] == [0, 5, 15, 15]
    assert await refusals(await node.client("other-token"), filters) == 0
    assert b'nexus_shares_refused_total{pot="filters"} 35.0' in (await node.http("GET", "/metrics")).body
    crowd[0].leave()
    await crowd[0].closed()
    assert await refusals(crowd[2], filters) == 0
