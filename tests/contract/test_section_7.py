"""Section 7 of the contract: heartbeat and closing, on a live node, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from nexus_tw.model.settings import Heartbeat, Limits, Settings
from tests.client import BINARY, CLOSE, PING, PONG, Client, frame, handshake
from tests.node import TOKEN, Node, Nodes, clock, limited, until

QUICK = Settings(heartbeat=Heartbeat(interval=0.1, timeout=0.3))


def assert_told(client: Client, code: int, reason: str, reconnect: bool) -> None:
    """`disconnect` came last and says the same as the close, and when to return, if at all."""
    last = client.left[-1]
    assert (last["type"], last["code"], last["reason"], last["reconnect"]) == ("disconnect", code, reason, reconnect)
    assert (last["delay"] > 0) is reconnect


def test_the_defaults_are_a_ping_every_30_s_and_60_s_of_patience() -> None:
    assert Settings().heartbeat == Heartbeat(interval=30, timeout=60)


@pytest_twisted.ensureDeferred
async def test_at_each_interval_come_the_json_ping_and_a_websocket_ping(nodes: Nodes) -> None:
    client = await (await nodes(Settings(heartbeat=Heartbeat(interval=0.1, timeout=30)))).client()
    began = clock.seconds()
    for _ in range(4):
        assert json.loads(await client.message()) == {"type": "ping"}
        assert (await client.frame()).opcode == PING
    assert 0.25 < clock.seconds() - began < 5


@pytest_twisted.ensureDeferred
async def test_a_browser_that_only_answers_websocket_pings_stays_connected(nodes: Nodes) -> None:
    client = await (await nodes(QUICK)).client()
    began = clock.seconds()
    while clock.seconds() - began < 0.8:
        received = await client.frame()
        assert received.opcode != CLOSE
        if received.opcode == PING:
            client.write(frame(PONG, received.payload))


@pytest_twisted.ensureDeferred
async def test_1000_heartbeat_timeout(nodes: Nodes) -> None:
    node = await nodes(QUICK)
    silent, other = await node.client(), await node.client()
    closing = ensureDeferred(silent_end(silent))
    began = clock.seconds()
    while not closing.called:
        assert clock.seconds() - began < 5
        assert json.loads(await other.message())["type"] in ("ping", "pong")
        other.send(type="ping")
    assert await closing == (1000, "Heartbeat timeout")
    assert_told(silent, 1000, "Heartbeat timeout", reconnect=True)


async def silent_end(client: Client) -> tuple[int, str]:
    """Reads without ever answering, until the server closes."""
    client.left = []
    while (received := await client.frame()).opcode != CLOSE:
        if received.opcode != PING:
            client.left.append(json.loads(received.payload))
    return int.from_bytes(received.payload[:2], "big"), received.payload[2:].decode()


@pytest_twisted.ensureDeferred
async def test_1000_server_shutting_down(nodes: Nodes) -> None:
    node = await nodes()
    clients = [await node.client() for _ in range(5)]
    draining = ensureDeferred(node.server.drain())
    for client in clients:
        assert await client.closed() == (1000, "Server shutting down")
        assert_told(client, 1000, "Server shutting down", reconnect=True)
    await draining
    assert len(node.server.connections) == 0


@pytest_twisted.ensureDeferred
async def test_1008_unauthorized(nodes: Nodes) -> None:
    node = await nodes()
    wire = await node.wire(handshake(token="wrong"))
    client = Client(wire, await wire.response())
    assert await client.closed() == (1008, "Unauthorized")
    assert_told(client, 1008, "Unauthorized", reconnect=False)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(3), 1002),
        (frame(BINARY, b"x"), 1003),
        (frame(1, b"\xff"), 1007),
        (frame(1, b" " * 262145), 1009),
    ],
)
async def test_1002_1003_1007_1009_violations_of_rfc_6455_and_too_big(nodes: Nodes, data: bytes, code: int) -> None:
    client = await (await nodes()).client()
    client.write(data)
    assert (await client.closed())[0] == code


@pytest_twisted.ensureDeferred
async def test_4001_slow_consumer(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=65536, message=32768))
    slow = await node.client()
    publisher = await node.client()
    await slow.subscribe("a.b")
    slow.wire.transport.pauseProducing()
    while node.server.connections and node.metrics.connections_closed[4001] == 0 and "a.b" in subscribed(node):
        await publisher.ask(type="publish", eventType="a.b", data="x" * 30000)
    slow.wire.transport.resumeProducing()
    assert await slow.closed() == (4001, "Slow consumer")
    assert_told(slow, 4001, "Slow consumer", reconnect=True)


def subscribed(node: Node) -> list[str]:
    """Return the patterns that any client is subscribed to."""
    realm: Any = node.server.realms["nexus"]
    return [pattern.text for pattern in realm._subscriptions._hub.patterns()]


@pytest_twisted.ensureDeferred
async def test_past_the_rate_reading_pauses_and_resumes_and_nothing_is_lost(nodes: Nodes) -> None:
    """4002 takes a minute: `tests/transport/test_websocket.py` has that on a clock of its own."""
    node = await nodes(limited(rate=50))
    client = await node.client()
    client.write(b"".join(frame(1, b'{"type":"ping","id":%d}' % number) for number in range(60)))
    await until(lambda: node.metrics.reads_paused)
    began = clock.seconds()
    assert (await client.ask(type="ping"))["type"] == "pong"
    assert clock.seconds() - began > 0.1
    assert [message["id"] for message in await client.heard()] == list(range(60))


@pytest_twisted.ensureDeferred
async def test_4003_replaced_by_a_newer_connection(nodes: Nodes) -> None:
    node = await nodes()
    first, second = await node.client(), await node.client()
    for client in (first, second):
        await client.ask(type="register", commands=[], agentId="agent-1")
    assert await first.closed() == (4003, "Replaced by a newer connection")
    assert_told(first, 4003, "Replaced by a newer connection", reconnect=False)
    assert await second.heard() == []


@pytest_twisted.ensureDeferred
async def test_4004_too_many_errors(nodes: Nodes) -> None:
    assert Limits().errors == 100
    client = await (await nodes()).client()
    client.write(frame(1, b"{") * 101)
    assert await client.closed() == (4004, "Too many errors")
    assert [message["type"] for message in client.left] == ["error"] * 101 + ["disconnect"]
    assert_told(client, 4004, "Too many errors", reconnect=True)


@pytest_twisted.ensureDeferred
async def test_past_a_connection_limit_an_upgrade_gets_503_or_429_with_retry_after(nodes: Nodes) -> None:
    for limit, status in (("connections", 503), ("connections_per_address", 429), ("connections_per_subject", 429)):
        node = await nodes(limited(**{limit: 1}))
        await node.client()
        response = await node.refusal(token=TOKEN)
        assert (response.status, int(response.headers["retry-after"]) > 0) == (status, True), limit


# --- SIGTERM, from when the service calls `drain`


@pytest_twisted.ensureDeferred
async def test_while_draining_ready_and_upgrades_answer_503(nodes: Nodes) -> None:
    node = await nodes(Settings(drain=1))
    client = await node.client()
    client.wire.transport.pauseProducing()  # it keeps the drain waiting
    draining = ensureDeferred(node.server.drain())
    ready = await node.http("GET", "/health/ready", None)
    refused = await node.refusal(token=TOKEN)
    for response in (ready, refused):
        assert response.status == 503
        assert int(response.headers["retry-after"]) > 0
    assert refused.json["code"] == "shutting_down"
    client.wire.transport.resumeProducing()
    assert await client.closed() == (1000, "Server shutting down")
    await draining


@pytest_twisted.ensureDeferred
async def test_pending_telemetry_is_acknowledged_before_the_close(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    for number in range(100):
        client.send(type="telemetry", agentId="a", metrics={"x": number}, id=number)
    await client.expect("telemetry_ack", id=0)  # so all are in the server, whose socket they came through
    draining = ensureDeferred(node.server.drain())
    assert await client.closed() == (1000, "Server shutting down")
    await draining
    assert [message["id"] for message in client.left if message["type"] == "telemetry_ack"] == list(range(1, 100))
    assert client.left[-1]["type"] == "disconnect"


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_leave_is_dropped_when_the_drain_is_over(nodes: Nodes) -> None:
    node = await nodes(Settings(drain=0.3))
    client = await node.client()
    client.wire.transport.pauseProducing()
    began = clock.seconds()
    await node.server.drain()
    assert 0.2 < clock.seconds() - began < 3
    assert len(node.server.connections) == 0
