"""Bodies of requests over real sockets: lengths, chunks, codings."""

from __future__ import annotations

import gzip

import pytest
import pytest_twisted

from tests.client import request
from tests.node import TOKEN, Nodes, limited, turns

EVENT = b'{"eventType": "a.b", "data": 1}'


@pytest_twisted.ensureDeferred
async def test_a_body_may_come_in_chunks(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, ["Transfer-Encoding: chunked"]))
    for part in (EVENT[:5], EVENT[5:], b""):
        wire.write(b"%x\r\n%b\r\n" % (len(part), part))
        await turns(2)
    assert (await wire.response()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_body_too_large_is_refused_by_its_announced_length(nodes: Nodes) -> None:
    node = await nodes(limited(message=100))
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, ["Content-Length: 1601"]))
    response = await wire.response()
    assert (response.status, response.json["code"]) == (413, "too_large")
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_body_too_large_is_refused_as_soon_as_its_chunks_are_too_many(nodes: Nodes) -> None:
    node = await nodes(limited(message=100))
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, ["Transfer-Encoding: chunked"]))
    for _ in range(17):
        wire.write(b"64\r\n" + b"x" * 100 + b"\r\n")
        await turns(1)
    response = await wire.response()
    assert (response.status, response.json["code"]) == (413, "too_large")
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_body_of_the_largest_size_is_taken(nodes: Nodes) -> None:
    node = await nodes(limited(message=100))
    body = EVENT + b" " * (1600 - len(EVENT))
    assert (await node.http("POST", "/api/v1/events", TOKEN, body)).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "fields",
    [
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: +5"],
        ["Content-Length: 5, 5"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
    ],
)
async def test_a_body_of_unclear_length_is_refused(nodes: Nodes, fields: list[str]) -> None:
    """RFC 9112 section 6.3: what two parsers may read differently smuggles a request past one of them."""
    node = await nodes()
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, fields) + b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    response = await wire.response()
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_chunk_that_is_none_is_refused(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, ["Transfer-Encoding: chunked"]) + b"zz\r\n")
    assert (await wire.response()).status == 400
    assert await wire.rest() == b""


@pytest_twisted.ensureDeferred
async def test_a_client_that_asks_first_is_told_to_go_on(nodes: Nodes) -> None:
    node = await nodes()
    fields = ["Expect: 100-continue", f"Content-Length: {len(EVENT)}"]
    wire = await node.wire(request("POST", "/api/v1/events", TOKEN, None, fields))
    assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.write(EVENT)
    assert (await wire.response()).status == 200


# --- compressed bodies


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("coding", ["gzip", "GZip", "x-gzip", "identity, gzip"])
async def test_a_body_may_come_compressed(nodes: Nodes, coding: str) -> None:
    node = await nodes()
    headers = [f"Content-Encoding: {coding}"]
    halves = gzip.compress(EVENT[:9]) + gzip.compress(EVENT[9:])
    for body in (gzip.compress(EVENT), halves):
        response = await node.http("POST", "/api/v1/events", TOKEN, body, headers)
        assert (response.status, response.json["published"][0]["eventType"]) == (200, "a.b")
    assert (await node.http("POST", "/api/v1/events", TOKEN, EVENT, ["Content-Encoding: identity"])).status == 200


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "gzip, gzip", "br, gzip", "gz"])
async def test_a_coding_that_is_not_spoken_gets_415_and_accept_encoding(nodes: Nodes, coding: str) -> None:
    """RFC 9110 section 15.5.16."""
    node = await nodes()
    response = await node.http("POST", "/api/v1/events", TOKEN, EVENT, [f"Content-Encoding: {coding}"])
    assert (response.status, response.headers["accept-encoding"]) == (415, "gzip")
    assert response.json["title"] == "Unsupported Media Type"
    assert response.json["detail"].startswith("Content-Encoding: ")


@pytest_twisted.ensureDeferred
async def test_a_decompression_bomb_is_not_unpacked(nodes: Nodes) -> None:
    """What counts is what a body becomes, and no more than that is made of it."""
    node = await nodes(limited(message=100000))
    bomb = gzip.compress(b" " * 1_600_001)
    assert len(bomb) < 2000
    headers = ["Content-Encoding: gzip"]
    response = await node.http("POST", "/api/v1/events", TOKEN, bomb, headers)
    assert (response.status, response.json["code"]) == (413, "too_large")
    fits = gzip.compress(EVENT + b" " * (1_600_000 - len(EVENT)))
    assert (await node.http("POST", "/api/v1/events", TOKEN, fits, headers)).status == 200
    assert (await node.http("POST", "/api/v1/events", None, bomb, headers)).status == 401


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "body", [EVENT, gzip.compress(EVENT)[:-3], gzip.compress(EVENT) + b"more", b""], ids=["plain", "cut", "more", "empty"]
)
async def test_a_body_that_is_not_what_it_is_called_is_refused(nodes: Nodes, body: bytes) -> None:
    node = await nodes()
    response = await node.http("POST", "/api/v1/events", TOKEN, body, ["Content-Encoding: gzip"])
    assert (response.status, response.json["code"]) == (400, "invalid_message")
    assert "Content-Encoding" in response.json["detail"]
