"""Section 2 of the contract: the addresses of this version, all on one port of a live node."""

from __future__ import annotations

import pytest
import pytest_twisted

from nexus_tw.model.settings import Settings
from tests.client import BINARY, TEXT, Client, frame, handshake
from tests.node import TOKEN, Nodes

PROBLEM = {"type", "title", "status", "detail", "code", "retryable"}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("protocols", [[], ["nexus.v1.json"]])
async def test_get_events_with_an_upgrade_is_a_json_session_in_text_frames(nodes: Nodes, protocols: list[str]) -> None:
    node = await nodes()
    wire = await node.wire(handshake(token=TOKEN, protocols=protocols))
    client = Client(wire, await wire.response())
    received = await client.frame()
    assert (received.fin, received.opcode) == (True, TEXT)


@pytest_twisted.ensureDeferred
async def test_post_events_publishes(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a.b")
    response = await node.http("POST", "/api/v1/events", TOKEN, b'{"eventType": "a.b", "data": {"x": 1}}')
    assert response.status == 200
    assert response.json["published"][0]["eventType"] == "a.b"
    await client.expect("event", data={"x": 1})


@pytest_twisted.ensureDeferred
async def test_post_broadcast_sends_one_message_to_every_json_session(nodes: Nodes) -> None:
    node = await nodes(Settings(echo=True))
    client = await node.client()
    wire = await node.wire(handshake("/echo", token=TOKEN))
    echo = Client(wire, await wire.response())
    response = await node.http("POST", "/api/v1/broadcast", TOKEN, b'{"data": "hello"}')
    assert response.json == {"recipients": 1}
    await client.expect("broadcast", data="hello")
    echo.send_text("nothing before this")
    assert await echo.message() == b"nothing before this"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("target", ["/health/live", "/health/ready", "/"])
async def test_health_and_the_page_are_open(nodes: Nodes, target: str) -> None:
    assert (await (await nodes()).http("GET", target, None)).status == 200


@pytest_twisted.ensureDeferred
async def test_metrics_are_for_admins(nodes: Nodes) -> None:
    node = await nodes()
    assert [(await node.http("GET", "/metrics", token)).status for token in (None, TOKEN)] == [401, 200]


@pytest_twisted.ensureDeferred
async def test_echo_sends_back_what_it_gets_in_kind(nodes: Nodes) -> None:
    node = await nodes(Settings(echo=True, echo_message=100_000))
    wire = await node.wire(handshake("/echo", token=TOKEN))
    client = Client(wire, await wire.response())
    for opcode, payload in ((TEXT, b""), (TEXT, "ä".encode() * 500), (BINARY, b"\xff" * 70_000)):
        client.write(frame(opcode, payload))
        assert await client.frame() == (True, opcode, payload)
    client.write(frame(BINARY, b"x" * 100_001))
    assert (await client.frame()).payload[:2] == (1009).to_bytes(2, "big")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("method", "target", "token", "status", "code"),
    [
        ("GET", "/nowhere", TOKEN, 404, "not_found"),
        ("POST", "/api/v1/events", None, 401, "unauthorized"),
        ("POST", "/api/v1/events", TOKEN, 400, "invalid_json"),
        ("PATCH", "/api/v1/events", TOKEN, 405, "method_not_allowed"),
        ("GET", "/api/v1/events", TOKEN, 426, "invalid_message"),
    ],
)
async def test_http_errors_are_problems_with_our_code(
    nodes: Nodes, method: str, target: str, token: str | None, status: int, code: str
) -> None:
    response = await (await nodes()).http(method, target, token, b"{")
    assert response.status == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json.keys() >= PROBLEM
    assert (response.json["status"], response.json["code"]) == (status, code)
    assert ("allow" in response.headers) is (status == 405)
