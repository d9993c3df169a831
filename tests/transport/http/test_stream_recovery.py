"""Clients of event streams that come back: they get exactly what they missed, or are told that events may be missing."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted

from nexus_tw.bus import open_bus
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import History, Kept, Settings
from tests.node import TOKEN, Node, Nodes, clock
from tests.transport.http.streams import Stream, asking, stream


async def publish(node: Node, *data: Any, event_type: str = "a.b") -> None:
    body = json.dumps([{"eventType": event_type, "data": each} for each in data]).encode()
    assert (await node.http("POST", "/api/v1/events", TOKEN, body)).status == 200


async def back(node: Node, before: Stream, query: str = "events=a.b") -> Stream:
    """The stream of a client that lost this one."""
    before.wire.drop()
    await node.connected(0)
    return await stream(node, query, headers=(f"Last-Event-ID: {before.last_id}",))


def said(messages: list[Any]) -> list[Any]:
    return [(each["eventType"], each["data"] if each["type"] == "event" else each["recovered"]) for each in messages]


async def next_ones(opened: Stream, count: int) -> list[Any]:
    return said([await opened.message() for _ in range(count)])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("query", ["events=a.b", "events=a.b,c", "events=a.*", "events=**"])
async def test_it_gets_exactly_what_it_missed_and_then_live_events(nodes: Nodes, query: str) -> None:
    node = await nodes()
    opened = await stream(node, query)
    await publish(node, 1, 2)
    assert await next_ones(opened, 2) == [("a.b", 1), ("a.b", 2)]
    opened.wire.drop()
    await node.connected(0)
    await publish(node, 3, 4, 5)
    again = await back(node, opened, query)
    await publish(node, 6)
    assert await next_ones(again, 4) == [("a.b", 3), ("a.b", 4), ("a.b", 5), ("a.b", 6)]
    once_more = await back(node, again, query)
    await publish(node, 7)
    assert await next_ones(once_more, 1) == [("a.b", 7)]


@pytest_twisted.ensureDeferred
async def test_the_id_may_be_in_the_query_and_the_header_comes_first(nodes: Nodes) -> None:
    node = await nodes()
    opened = await stream(node)
    first = opened.last_id
    await publish(node, 1)
    await opened.message()
    assert await next_ones(await stream(node, f"events=a.b&lastEventId={quote(first)}"), 1) == [("a.b", 1)]
    both = await stream(node, f"events=a.b&lastEventId={quote(first)}", headers=(f"Last-Event-ID: {opened.last_id}",))
    await publish(node, 2)
    assert await next_ones(both, 1) == [("a.b", 2)]


@pytest_twisted.ensureDeferred
async def test_a_pattern_brings_types_that_began_meanwhile(nodes: Nodes) -> None:
    node = await nodes()
    await publish(node, 0, event_type="a.old")
    opened = await stream(node, "events=a.*")
    await publish(node, 1, event_type="a.old")
    assert await next_ones(opened, 1) == [("a.old", 1)]
    opened.wire.drop()
    await node.connected(0)
    await publish(node, 2, event_type="a.new")
    again = await back(node, opened, "events=a.*")
    assert await next_ones(again, 1) == [("a.new", 2)]


@pytest_twisted.ensureDeferred
async def test_filters_hold_for_what_was_missed(nodes: Nodes) -> None:
    node = await nodes()
    query = f"events=a.b&filters={quote(json.dumps({'x': {'gt': 1}}))}"
    opened = await stream(node, query)
    again = await back(node, opened, query)
    again.wire.drop()
    await node.connected(0)
    await publish(node, *({"x": x} for x in range(4)))
    once_more = await back(node, again, query)
    assert [(await once_more.message())["data"]["x"] for _ in range(2)] == [2, 3]


@pytest_twisted.ensureDeferred
async def test_what_is_gone_is_told_with_the_new_position_and_nothing_is_replayed(nodes: Nodes) -> None:
    node = await nodes(Settings(history=History(count=2)))
    opened = await stream(node, "events=a.b,c")
    await publish(node, 1, 2, 3)
    opened.wire.drop()
    again = await back(node, opened, "events=a.b,c")
    message = await again.message()
    assert message == {"type": "continuity", "eventType": "a.b", "position": message["position"], "recovered": False}
    assert message["position"].endswith(":3")
    await publish(node, 4)
    assert await next_ones(again, 1) == [("a.b", 4)]
    once_more = await back(node, again, "events=a.b,c")
    await publish(node, 5)
    assert await next_ones(once_more, 1) == [("a.b", 5)], "the gap is not told twice"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("last_id", ["0", "nonsense", "1&a.b=other:1", "1"])
async def test_an_id_that_says_too_little_is_answered_by_continuity(nodes: Nodes, last_id: str) -> None:
    node = await nodes()
    await publish(node, 1, event_type="a.b")
    opened = await stream(node, "events=a.b", headers=(f"Last-Event-ID: {last_id}",))
    assert await next_ones(opened, 1) == [("a.b", False)]
    await publish(node, 2)
    assert await next_ones(opened, 1) == [("a.b", 2)]


@pytest_twisted.ensureDeferred
async def test_where_no_history_is_kept_it_is_told_each_time(nodes: Nodes) -> None:
    node = await nodes(Settings(history=History(count=0)))
    opened = await stream(node, "events=a.b,c.**")
    await publish(node, 1)
    assert await next_ones(opened, 1) == [("a.b", 1)]
    again = await back(node, opened, "events=a.b,c.**")
    assert await next_ones(again, 2) == [("a.b", False), ("c.**", False)]


@pytest_twisted.ensureDeferred
async def test_a_type_without_history_among_others_is_told(nodes: Nodes) -> None:
    node = await nodes(Settings(history=History(patterns={"off": Kept(count=0)})))
    opened = await stream(node, "events=a.b,off")
    opened.wire.drop()
    await node.connected(0)
    await publish(node, 1)
    again = await back(node, opened, "events=a.b,off")
    assert sorted(await next_ones(again, 2)) == [("a.b", 1), ("off", False)]


@pytest_twisted.ensureDeferred
async def test_positions_too_long_for_a_header_are_told_as_a_gap(nodes: Nodes) -> None:
    node = await nodes()
    for number in range(60):
        await publish(node, number, event_type=f"a.{'x' * 40}-{number}")
    opened = await stream(node, "events=a.*")
    assert opened.last_id == "0"
    assert await next_ones(await back(node, opened, "events=a.*"), 1) == [("a.*", False)]


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_it_is_told_when_to_try_again_and_then_misses_nothing(nodes: Nodes) -> None:
    bus: Any = open_bus("memory:", clock, Metrics(), "one", history=History())
    node = await nodes(bus=bus)
    opened = await stream(node)
    await publish(node, 1)
    assert await next_ones(opened, 1) == [("a.b", 1)]
    opened.wire.drop()
    await node.connected(0)
    await publish(node, 2)
    node.lose(bus)
    wire = await node.wire(asking("events=a.b", headers=(f"Last-Event-ID: {opened.last_id}",)))
    head, _, rest = (await wire.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and rest.startswith(b"retry: ") and rest.count(b"\n\n") == 1
    node.restore(bus)
    assert await next_ones(await back(node, opened), 1) == [("a.b", 2)]
