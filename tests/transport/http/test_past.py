"""Past events over HTTP, over real sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from nexus_tw.bus import open_bus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import History, Role, Settings
from nexus_tw.transport.http.pages import LIMIT, MAX_LIMIT
from tests.client import Response
from tests.node import TOKEN, Node, Nodes, clock, with_roles


async def publish(node: Node, *data: Any) -> None:
    body = json.dumps([{"eventType": "a.b", "data": each} for each in data]).encode()
    assert (await node.http("POST", "/api/v1/events", TOKEN, body)).status == 200


async def history(node: Node, query: str, token: str | None = TOKEN) -> Response:
    return await node.http("GET", f"/api/v1/history?{query}", token)


@pytest_twisted.ensureDeferred
async def test_past_events_come_oldest_first_page_by_page(nodes: Nodes) -> None:
    node = await nodes()
    await publish(node, {"x": 1}, [2], None)
    answer = (await history(node, "eventType=a.b&limit=2")).json
    assert answer.keys() == {"events", "position", "recovered"}
    assert [event["data"] for event in answer["events"]] == [{"x": 1}, [2]]
    for event in answer["events"]:
        assert event.keys() == {"eventType", "data", "position", "timestamp"}
        assert event["eventType"] == "a.b" and event["timestamp"].endswith("Z")
    assert answer["events"][-1]["position"] == answer["position"]
    rest = (await history(node, f"eventType=a.b&since={answer['position']}")).json
    assert [event["data"] for event in rest["events"]] == [None]
    assert rest["recovered"]
    again = (await history(node, f"eventType=a.b&since={rest['position']}")).json
    assert again == {"events": [], "position": rest["position"], "recovered": True}


@pytest_twisted.ensureDeferred
async def test_an_answer_holds_a_hundred_events_unless_more_are_asked_for(nodes: Nodes) -> None:
    node = await nodes()
    await publish(node, *range(LIMIT + 20))
    assert len((await history(node, "eventType=a.b")).json["events"]) == LIMIT
    assert len((await history(node, f"eventType=a.b&limit={MAX_LIMIT}")).json["events"]) == LIMIT + 20


@pytest_twisted.ensureDeferred
async def test_a_position_of_another_epoch_recovers_nothing(nodes: Nodes) -> None:
    node = await nodes()
    await publish(node, 1)
    response = await history(node, "eventType=a.b&since=other:1")
    answer = response.json
    assert (response.status, answer["events"], answer["recovered"]) == (200, [], False)
    assert answer["position"].endswith(":1")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("", "eventType: is missing"),
        ("eventType=", "eventType: is missing"),
        ("eventType=a..b", "eventType: "),
        ("eventType=a.*", "eventType: "),
        ("eventType=a&eventType=b", "eventType: is there more than once"),
        ("eventType=a&since=1", "since: a position is EPOCH:OFFSET"),
        ("eventType=a&limit=0", "limit: must be an integer from 1 to 1000"),
        ("eventType=a&limit=1001", "limit: must be an integer from 1 to 1000"),
        ("eventType=a&limit=1.5", "limit: must be an integer from 1 to 1000"),
    ],
)
async def test_parameters_are_strict_and_their_errors_name_them(nodes: Nodes, query: str, member: str) -> None:
    response = await history(await nodes(), query)
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert response.json["detail"].startswith(f"Invalid message format: {member}")


@pytest_twisted.ensureDeferred
async def test_only_those_who_may_subscribe_to_the_type_may_read_its_past(nodes: Nodes) -> None:
    node = await nodes(with_roles(agent=Role(subscribe=("a.b",))))
    assert (await history(node, "eventType=a.b", "agent-token")).status == 200
    response = await history(node, "eventType=a.c", "agent-token")
    assert (response.status, response.json["code"]) == (403, "forbidden")
    assert (await history(node, "eventType=a.b", None)).status == 401


@pytest_twisted.ensureDeferred
async def test_where_no_history_is_kept_that_is_said(nodes: Nodes) -> None:
    response = await history(await nodes(Settings(history=History(count=0))), "eventType=a.b")
    assert (response.status, response.json["code"]) == (404, "not_found")
    assert response.json["detail"] == "No history of a.b is kept"


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_it_is_503(nodes: Nodes) -> None:
    bus: Any = open_bus("memory:", clock, Metrics(), "one", history=History())
    node = await nodes(bus=bus)
    node.lose(bus)
    response = await history(node, "eventType=a.b")
    assert (response.status, response.json["code"]) == (503, "bus_unavailable")
    node.restore(bus)
    assert (await history(node, "eventType=a.b")).status == 200
