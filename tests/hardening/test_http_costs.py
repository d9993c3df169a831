"""The cost of a client of plain HTTP: unread answers, bodies of unauthenticated clients, connections, bodies in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted

from nexus_tw.model.settings import Limits, Settings
from tests.client import request
from tests.node import TOKEN, Nodes, limited, turns, until

EVENT = json.dumps({"eventType": "a.b", "data": 1}).encode()
PAGE = request("GET", "/", None)


@pytest_twisted.ensureDeferred
async def test_pipelined_requests_whose_answers_are_never_read_are_not_parsed_on(nodes: Nodes) -> None:
    """What waits is one answer beyond what the socket takes, and requests wait in the client."""
    node = await nodes()
    wire = await node.wire(PAGE)
    wire.transport.pauseProducing()
    channels: Any = node.server.connections._visits
    await until(lambda: len(channels) == 1)
    (channel,) = channels
    for _ in range(40):
        wire.write(PAGE * 1000)
        await turns(5)
        assert len(channel._socket.dataBuffer) + channel._socket._tempDataLen < 16384
        assert len(channel._buffer) + sum(map(len, channel._dataBuffer)) < 262144


@pytest_twisted.ensureDeferred
async def test_a_stranger_is_refused_before_the_body_and_no_continue_is_said(nodes: Nodes) -> None:
    node = await nodes()
    head = ["Content-Length: 1000", "Expect: 100-continue"]
    wire = await node.wire(request("POST", "/api/v1/events", "wrong", None, head))
    assert (await wire.response()).status == 401
    assert await wire.rest() == b""
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, [f"Content-Length: {len(EVENT)}", head[1]]))
    assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.write(EVENT)
    assert (await wire.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_plain_http_is_counted_by_the_limits_of_connections_and_health_checks_are_answered(nodes: Nodes) -> None:
    node = await nodes(Settings(limits=Limits(connections_per_address=1)))
    first = await node.wire(PAGE)
    assert (await first.response()).status == 200
    second = await node.wire(PAGE)
    assert (await second.response()).status == 429
    assert await second.rest() == b""
    third = await node.wire(request("GET", "/health/live", None))
    assert (await third.response()).status == 200
    assert await third.rest() == b""


@pytest_twisted.ensureDeferred
async def test_unfinished_bodies_are_bounded_per_subject_and_all_is_given_back(nodes: Nodes) -> None:
    node = await nodes(limited(bodies=4000))
    half = await node.wire(request("POST", "/api/v1/events", TOKEN, b"x" * 800 + b" ")[:-1])
    pot = node.server.doors.admission.bodies
    await until(lambda: pot.taken > 0)
    response = await node.http("POST", "/api/v1/events", TOKEN, EVENT + b" " * 900)
    assert (response.status, response.json["code"], response.headers["retry-after"]) == (429, "rate_limited", "1")
    assert "limits.share" in response.json["detail"]
    large = await node.http("POST", "/api/v1/events", TOKEN, EVENT + b" " * 1000)
    assert (large.status, large.json["code"]) == (413, "too_large"), "which no waiting would help"
    half.drop()
    await until(lambda: pot.taken == 0)


@pytest_twisted.ensureDeferred
async def test_one_byte_chunks_are_refused_when_they_are_too_many(nodes: Nodes) -> None:
    node = await nodes()
    head = request("POST", "/api/v1/events", TOKEN, None, ["Transfer-Encoding: chunked"])
    wire = await node.wire(head + b"1\r\n \r\n" * 5000)
    assert (await wire.response()).status == 413


@pytest_twisted.ensureDeferred
async def test_requests_that_wait_behind_another_are_counted_once(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(PAGE)
    assert (await wire.response()).status == 200
    channels: list[Any] = list(node.server.connections._visits)
    (channel,) = channels
    counted: list[int] = []
    count = channel.charge

    def counting(size: int) -> None:
        counted.append(size)
        count(size)

    channel.charge = counting
    wire.write(PAGE * 20)
    for _ in range(20):
        assert (await wire.response()).status == 200
    assert sum(counted) == 20 * len(PAGE)


@pytest_twisted.ensureDeferred
async def test_a_body_that_nobody_wants_is_passed_over_unless_it_comes_in_crumbs(nodes: Nodes) -> None:
    node = await nodes()
    head = request("POST", "/api/v1/events", "wrong", None, ["Transfer-Encoding: chunked"])
    wire = await node.wire(head + b"1\r\n \r\n" * 100 + b"0\r\n\r\n" + PAGE)
    assert [(await wire.response()).status for _ in range(2)] == [401, 200]
    wire = await node.wire(head + b"1\r\n \r\n" * 200 + b"0\r\n\r\n" + PAGE)
    assert (await wire.response()).status == 401
    assert await wire.rest() == b""
