"""Section 5 of the contract: what the server sends, on a live node, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.plugins import IStore, Sample
from nexus_tw.model.errors import ERRORS, NexusError
from nexus_tw.model.settings import History, Role, Settings, Store
from tests.client import Client
from tests.contract.shapes import is_timestamp, shaped
from tests.node import TOKEN, Nodes, clock, limited, with_roles

# --- the messages


@pytest_twisted.ensureDeferred
async def test_connected_is_the_first_message(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    welcome = shaped(client.welcome, "clientId", "timestamp", "message", "heartbeat", "limits", "user", "reconnect")
    assert welcome["message"] == "Connected to Nexus API WebSocket"
    assert welcome["heartbeat"] == {"interval": 30, "timeout": 60}
    assert welcome["reconnect"] == {"delay": 1000}
    assert welcome["limits"] == {"message": 262144, "subscriptions": 128, "registrations": 1024, "rate": 10000}
    assert welcome["user"] == {"subject": "admin", "role": "admin"}


@pytest_twisted.ensureDeferred
async def test_no_two_connections_have_the_same_client_id(nodes: Nodes) -> None:
    node = await nodes()
    assert len({(await node.client()).client_id for _ in range(20)}) == 20


@pytest_twisted.ensureDeferred
async def test_without_history_there_is_no_position_anywhere(nodes: Nodes) -> None:
    client = await (await nodes(Settings(history=History(count=0)))).client()
    replies = [
        await client.ask(type="subscribe", events=["a.b", "**"]),
        await client.ask(type="publish", eventType="a.b", data=1),
        *await client.heard(),
    ]
    assert len(replies) == 3
    assert not any("position" in reply or "positions" in reply for reply in replies)


@pytest_twisted.ensureDeferred
async def test_positions_come_before_events_and_are_the_same_for_all(nodes: Nodes) -> None:
    node = await nodes()
    client, publisher = await node.client(), await node.client()
    told = await publisher.ask(type="publish", eventType="a.c", data=0)
    positions = (await client.ask(type="subscribe", events=["a.b", "a.*"]))["positions"]
    assert positions["a.c"] == told["position"]
    epoch = positions.pop("a.b").removesuffix(":0")
    assert positions == {"a.c": told["position"]}
    told = await publisher.ask(type="publish", eventType="a.b", data=1)
    assert told["position"] == f"{epoch}:1"
    assert (await client.expect("event", eventType="a.b"))["position"] == told["position"]
    response = await node.http("POST", "/api/v1/events", body=b'{"eventType": "a.b", "data": 2}')
    (published,) = response.json["published"]
    assert published["position"] == f"{epoch}:2" and published.keys() == {"eventType", "timestamp", "position"}
    assert (await client.expect("event", eventType="a.b"))["position"] == published["position"]


@pytest_twisted.ensureDeferred
async def test_command_to_an_agent_says_all_that_it_needs(nodes: Nodes) -> None:
    node = await nodes()
    agent, caller = await node.client(), await node.client()
    await agent.ask(type="register", commands=["x"])
    caller.send(type="command", command="x", timeout=5)
    command = await agent.expect("command", command="x", parameters={}, caller="admin", attempt=1)
    shaped(command, "commandId", "command", "parameters", "caller", "deadline", "attempt")
    assert is_timestamp(command["deadline"])


@pytest_twisted.ensureDeferred
async def test_an_agent_for_several_is_told_which_one_is_meant(nodes: Nodes) -> None:
    node = await nodes()
    gateway, caller = await node.client(), await node.client()
    for agent_id in ("one", "two"):
        await gateway.ask(type="register", commands=["x"], agentId=agent_id)
    caller.send(type="command", command="x", target=["one", "two"], commandId="c-1")
    commands = [await gateway.expect("command", commandId="c-1") for _ in range(2)]
    assert [command["agentId"] for command in commands] == ["one", "two"]
    gateway.send(type="command_result", commandId="c-1", agentId="two", data=2)
    assert (await caller.expect("command_result", agentId="two"))["data"]["result"] == 2


@pytest_twisted.ensureDeferred
async def test_error_says_what_whether_to_retry_and_to_what_it_belongs(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    client.send(type="command", command="x", commandId="c-1", id=1)
    error = await client.expect("error", id=1, commandId="c-1", code="no_such_command", retryable=False)
    shaped(error, "message", "timestamp", "code", "retryable", "id", "commandId")
    client.send(type="nonsense")
    shaped(await client.expect("error"), "message", "timestamp", "code", "retryable")


@pytest_twisted.ensureDeferred
async def test_disconnect_is_sent_before_a_deliberate_close(nodes: Nodes) -> None:
    node = await nodes(limited(errors=1))
    client = await node.client()
    client.send_text("{")
    client.send_text("{")
    await client.closed()
    last = shaped(client.left[-1], "code", "reason", "reconnect", "delay")
    assert (last["code"], last["reason"], last["reconnect"]) == (4004, "Too many errors", True)
    assert isinstance(last["delay"], int)


# --- texts fixed by the guide


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ('{"type":"nonsense"}', "unknown_type", "Unknown message type: nonsense"),
        ('{"type":""}', "unknown_type", "Unknown message type: "),
        ('{"type":"connected"}', "unknown_type", "Unknown message type: connected"),
        ("{", "invalid_json", "Invalid JSON message"),
        ("", "invalid_json", "Invalid JSON message"),
        ("hello", "invalid_json", "Invalid JSON message"),
        ("{'type':'ping'}", "invalid_json", "Invalid JSON message"),
        ('{"type":"ping"} {}', "invalid_json", "Invalid JSON message"),
        ('{"type":"publish","eventType":"a.b","data":' + "[" * 60000, "invalid_json", "Invalid JSON message"),
        ("[]", "invalid_message", "Invalid message format: "),
        ("1", "invalid_message", "Invalid message format: "),
        ('"ping"', "invalid_message", "Invalid message format: "),
        ("null", "invalid_message", "Invalid message format: "),
        ("{}", "invalid_message", "Invalid message format: type: "),
        ('{"type":1}', "invalid_message", "Invalid message format: type: "),
        ('{"type":null}', "invalid_message", "Invalid message format: type: "),
        ('{"type":["ping"]}', "invalid_message", "Invalid message format: type: "),
        ('{"type":"subscribe"}', "invalid_message", "Invalid message format: events: "),
        ('{"type":"subscribe","events":"a.b"}', "invalid_message", "Invalid message format: events: "),
        ('{"type":"subscribe","events":[1]}', "invalid_message", "Invalid message format: events"),
        ('{"type":"subscribe","events":["a"],"filters":[]}', "invalid_message", "Invalid message format: filters: "),
        ('{"type":"subscribe","events":["a"],"since":{"a":1}}', "invalid_message", "Invalid message format: since"),
        ('{"type":"publish","eventType":"a.b"}', "invalid_message", "Invalid message format: data: "),
        ('{"type":"publish","data":1}', "invalid_message", "Invalid message format: eventType: "),
        ('{"type":"telemetry","metrics":{"x":1}}', "invalid_message", "Invalid message format: agentId: "),
        ('{"type":"command"}', "invalid_message", "Invalid message format: command: "),
        ('{"type":"register","commands":{}}', "invalid_message", "Invalid message format: commands: "),
        ('{"type":"command_result","commandId":"c","status":"fine"}', "invalid_message", "Invalid message format: status: "),
    ],
)
async def test_a_bad_message_is_answered_in_the_guides_words_and_names_the_member(
    nodes: Nodes, text: str, code: str, message: str
) -> None:
    client = await (await nodes()).client()
    client.send_text(text)
    error = await client.expect("error", code=code, retryable=False)
    if code == "invalid_message":
        assert error["message"].startswith(message) and len(error["message"]) > len(message)
    else:
        assert error["message"] == message
    assert (await client.ask(type="ping"))["type"] == "pong", "a bad message never closes the connection"


@pytest_twisted.ensureDeferred
async def test_command_execution_failed_says_why(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    error = await client.ask(type="command", command="x")
    assert error["message"].startswith("Command execution failed: ")


# --- the codes


@implementer(IStore)
class BrokenStore:
    """A store whose disk is full."""

    def start(self) -> Deferred[None]:
        return succeed(None)

    stop = start

    def commit(self, _samples: Sequence[Sample]) -> Deferred[None]:
        return fail(NexusError("store_unavailable", "disk full"))

    def samples(self, _agent_id: str, _since: int, _until: int, _limit: int) -> Deferred[list[Sample]]:
        return succeed([])

    def prune(self, _before: int) -> Deferred[int]:
        return succeed(0)


@pytest_twisted.ensureDeferred
async def test_store_unavailable_is_told_to_who_sent_telemetry(nodes: Nodes) -> None:
    client = await (await nodes(store=BrokenStore())).client()
    error = await client.ask(type="telemetry", agentId="a", metrics={"x": 1})
    assert (error["code"], error["retryable"]) == ("store_unavailable", True)
    assert error["message"] == "Telemetry submission failed: disk full"


@pytest_twisted.ensureDeferred
async def test_bus_unavailable_is_told_to_who_publishes(nodes: Nodes) -> None:
    bus = MemoryBus(MemoryBroker(clock), "away")
    client = await (await nodes(bus=bus)).client()
    bus.available = False
    error = await client.ask(type="publish", eventType="a.b", data=1)
    assert (error["code"], error["retryable"]) == ("bus_unavailable", True)
    bus.available = True


class FaultyBus(MemoryBus):
    """A bus with a fault in its program."""

    def publish(self, *_: object, metadata: bytes = b"") -> None:
        raise ValueError("a secret of the server")

    def carry(self, *_: object) -> None:
        raise ValueError("a secret of the server")


@pytest_twisted.ensureDeferred
async def test_internal_is_told_without_a_word_of_what_went_wrong(nodes: Nodes) -> None:
    node = await nodes(bus=FaultyBus(MemoryBroker(clock), "faulty"))
    client = await node.client()
    client.send(type="publish", eventType="a.b", data=1)
    error = await client.expect("error", code="internal", retryable=True)
    assert error["message"] == "Something went wrong in the server"
    assert (await client.ask(type="ping"))["type"] == "pong"
    response = await node.http("POST", "/api/v1/events", TOKEN, b'{"eventType": "a.b", "data": 1}')
    assert (response.status, response.json["code"]) == (500, "internal")
    assert b"secret" not in response.body


@pytest_twisted.ensureDeferred
async def test_the_table_of_codes(nodes: Nodes) -> None:
    """Retryable and HTTP status as written in the contract."""
    table = {
        "invalid_json": (False, 400),
        "invalid_message": (False, 400),
        "unknown_type": (False, 400),
        "unauthorized": (False, 401),
        "forbidden": (False, 403),
        "not_found": (False, 404),
        "method_not_allowed": (False, 405),
        "no_such_command": (False, 404),
        "agent_offline": (True, 409),
        "timeout": (True, 504),
        "expired": (False, 410),
        "cancelled": (False, 409),
        "agent_lost": (True, 502),
        "failed": (False, 500),
        "too_large": (False, 413),
        "limit_exceeded": (False, 422),
        "rate_limited": (True, 429),
        "store_unavailable": (True, 503),
        "bus_unavailable": (True, 503),
        "shutting_down": (True, 503),
        "internal": (True, 500),
    }
    assert {code: (kind.retryable, kind.http) for code, kind in ERRORS.items()} == table


# --- the server's own events


async def events_of(client: Client, count: int) -> list[dict[str, Any]]:
    return [(await client.expect("event"))["data"] for _ in range(count)]


@pytest_twisted.ensureDeferred
async def test_telemetry_received_has_the_metrics_as_sent(nodes: Nodes) -> None:
    node = await nodes(Settings(store=Store(retention="0")))
    watcher, agent = await node.client(), await node.client()
    await watcher.subscribe("telemetry.received", filters={"agentId": "agent-1"})
    metrics = {"cpu": 1.5, "disk": {"a": {"b": 1}}, "ok": True}
    await agent.ask(type="telemetry", agentId="agent-2", metrics=metrics)
    await agent.ask(type="telemetry", agentId="agent-1", metrics=metrics, timestamp="2026-01-01T00:00:00Z")
    (data,) = await events_of(watcher, 1)
    assert data == {"agentId": "agent-1", "metrics": metrics, "timestamp": "2026-01-01T00:00:00.000Z"}
    assert await watcher.heard() == []


@pytest_twisted.ensureDeferred
async def test_agent_status_tells_who_comes_and_goes_once(nodes: Nodes) -> None:
    node = await nodes()
    watcher, one, two = await node.client(), await node.client(), await node.client()
    await watcher.subscribe("agent.status")
    await one.ask(type="register", commands=["x"], agentId="agent-1")
    for client in (one, two, two):
        await client.ask(type="telemetry", agentId="agent-1", metrics={"x": 1})
    one.leave()
    await node.connected(2)
    (online,) = await events_of(watcher, 1)
    assert online.keys() == {"agentId", "status", "timestamp"} and is_timestamp(online["timestamp"])
    assert (online["agentId"], online["status"]) == ("agent-1", "online")
    assert await watcher.heard() == []
    two.drop()
    (offline,) = await events_of(watcher, 1)
    assert (offline["agentId"], offline["status"]) == ("agent-1", "offline")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("end", "statuses"),
    [
        ("success", ["queued", "sent", "running", "completed"]),
        ("error", ["queued", "sent", "running", "failed"]),
        ("cancel", ["queued", "sent", "running", "cancelled"]),
        ("lost", ["queued", "sent", "running", "failed"]),
        ("timeout", ["queued", "sent", "running", "failed"]),
        ("expired", ["queued", "expired"]),
    ],
)
async def test_task_updated_tells_each_state_and_one_final_one(nodes: Nodes, end: str, statuses: list[str]) -> None:
    node = await nodes()
    watcher, caller = await node.client(), await node.client()
    await watcher.subscribe("task.**")
    words = {"ttl": 0.05} if end == "expired" else {"ttl": 30, "timeout": 0.2 if end == "timeout" else 30}
    caller.send(type="command", command="x", target="agent-1", commandId="c-1", **words)
    data = await events_of(watcher, 1)
    if end != "expired":
        agent = await node.client()
        await agent.ask(type="register", commands=["x"], agentId="agent-1")
        await agent.expect("command")
        agent.send(type="command_progress", commandId="c-1", data=1)
        data += await events_of(watcher, 2)
        if end in ("success", "error"):
            agent.send(type="command_result", commandId="c-1", status=end)
        elif end == "cancel":
            caller.send(type="cancel", commandId="c-1")
        elif end == "lost":
            agent.drop()
    data += await events_of(watcher, len(statuses) - len(data))
    assert [each["status"] for each in data] == statuses
    for each in data:
        assert each.keys() == {"taskId", "command", "agentId", "status", "timestamp"}
        assert (each["taskId"], each["command"], each["agentId"]) == ("c-1", "x", "agent-1")
        assert is_timestamp(each["timestamp"])
    assert await watcher.heard() == []


@pytest_twisted.ensureDeferred
async def test_continuity_tells_that_events_may_have_been_missed(nodes: Nodes) -> None:
    bus = MemoryBus(MemoryBroker(clock), "away")
    node = await nodes(bus=bus)
    client, idle = await node.client(), await node.client()
    await client.subscribe("a.b", "task.*")
    node.lose(bus)
    node.restore(bus)
    messages = [shaped(await client.expect("continuity", recovered=False), "eventType", "recovered") for _ in range(2)]
    assert {message["eventType"] for message in messages} == {"a.b", "task.*"}
    assert await client.heard() == []
    assert await idle.heard() == []


@pytest_twisted.ensureDeferred
async def test_continuity_tells_clients_with_filters_now_and_then_that_they_have_missed_nothing(nodes: Nodes) -> None:
    node = await nodes(Settings(history=History(count=20)))
    picky, all_, publisher = await node.client(), await node.client(), await node.client()
    await picky.subscribe("a.b", filters={"n": 7})
    await all_.subscribe("a.b")
    for number in range(1, 31):
        await publisher.ask(type="publish", eventType="a.b", data={"n": number})
    heard = await picky.heard()
    assert [message["data"]["n"] for message in heard if message["type"] == "event"] == [7]
    told = [shaped(each, "eventType", "position", "recovered") for each in heard if each["type"] == "continuity"]
    assert [each["position"].rpartition(":")[2] for each in told] == ["5", "10", "15", "20", "25", "30"]
    assert all(each["recovered"] for each in told)
    assert [message["type"] for message in await all_.heard()] == ["event"] * 30
    again = await node.client()
    reply = await again.ask(type="subscribe", events=["a.b"], filters={"n": 7}, since={"a.b": told[-1]["position"]})
    assert reply["recovered"] == {"a.b": True}


@pytest_twisted.ensureDeferred
async def test_what_may_not_be_read_is_not_told(nodes: Nodes) -> None:
    node = await nodes(with_roles(agent=Role(subscribe=("task.updated",))))
    client = await node.client("agent-token")
    assert (await client.ask(type="subscribe", events=["agent.status"]))["code"] == "forbidden"
    other = await node.client()
    await other.ask(type="register", commands=["x"], agentId="a")
    assert await client.heard() == []
