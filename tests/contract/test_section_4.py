"""Section 4 of the contract: what clients send, on a live node, row by row."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
import pytest_twisted

from nexus_tw.model.settings import Limits, Role, Settings, Store
from nexus_tw.model.times import format_millis
from nexus_tw.protocols.native.session import JsonSession
from tests.client import Client
from tests.contract.shapes import shaped
from tests.node import Nodes, clock, limited, with_roles

IDS = ["text", "", 0, -1, 2**53, -(2**63), 2**63 - 1]


async def agent_with(client: Client, *commands: str, agent_id: str | None = None) -> Client:
    words = {} if agent_id is None else {"agentId": agent_id}
    reply = await client.ask(type="register", commands=list(commands), **words)
    assert reply["type"] == "registered", reply
    return client


# --- any of them may carry an id


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("id_", IDS)
async def test_every_reply_carries_the_id_of_what_it_replies_to(nodes: Nodes, id_: str | int) -> None:
    node = await nodes()
    client = await node.client()
    for message, reply in (
        ({"type": "subscribe", "events": ["a.b"]}, "subscribed"),
        ({"type": "unsubscribe", "events": ["a.b"]}, "unsubscribed"),
        ({"type": "ping"}, "pong"),
        ({"type": "publish", "eventType": "a.b", "data": 1}, "published"),
        ({"type": "telemetry", "agentId": "a", "metrics": {"x": 1}}, "telemetry_ack"),
        ({"type": "register", "commands": ["x"]}, "registered"),
        ({"type": "unregister", "commands": ["x"]}, "unregistered"),
        ({"type": "command", "command": "nobody"}, "error"),
        ({"type": "cancel", "commandId": "none"}, "error"),
        ({"type": "command_result", "commandId": "none"}, "error"),
        ({"type": "command_progress", "commandId": "none"}, "error"),
        ({"type": "nonsense"}, "error"),
        ({"type": "subscribe"}, "error"),
    ):
        client.send(**message, id=id_)
        assert (await client.expect(reply))["id"] == id_


@pytest_twisted.ensureDeferred
async def test_without_an_id_no_reply_has_one(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    for message, reply in (
        ({"type": "subscribe", "events": ["a.b"]}, "subscribed"),
        ({"type": "unsubscribe", "events": ["a.b"]}, "unsubscribed"),
        ({"type": "ping"}, "pong"),
        ({"type": "publish", "eventType": "a.b", "data": 1}, "published"),
        ({"type": "telemetry", "agentId": "a", "metrics": {"x": 1}}, "telemetry_ack"),
        ({"type": "register", "commands": ["x"]}, "registered"),
        ({"type": "command", "command": "nobody"}, "error"),
        ({"type": "nonsense"}, "error"),
    ):
        client.send(**message)
        assert "id" not in await client.expect(reply)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("id_", [1.5, True, [1], {"a": 1}, 2**63])
async def test_an_id_that_is_neither_string_nor_integer_is_refused(nodes: Nodes, id_: Any) -> None:
    client = await (await nodes()).client()
    client.send(type="ping", id=id_)
    error = await client.expect("error", code="invalid_message")
    assert "id" not in error
    assert error["message"].startswith("Invalid message format: id: ")


@pytest_twisted.ensureDeferred
async def test_unknown_members_are_ignored(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    assert (await client.ask(type="ping", future={"x": [1]}))["type"] == "pong"
    assert (await client.ask(type="subscribe", events=["a.b"], wait=3))["type"] == "subscribed"


# --- subscribe, unsubscribe


@pytest_twisted.ensureDeferred
async def test_subscribe_is_answered_by_subscribed_and_then_events_come(nodes: Nodes) -> None:
    node = await nodes()
    client, publisher = await node.client(), await node.client()
    client.send(type="subscribe", events=["task.updated", "agent.*"])
    shaped(await client.expect("subscribed", events=["task.updated", "agent.*"]), "events", "timestamp", "positions")
    await publisher.ask(type="publish", eventType="task.updated", data={"x": 1})
    shaped(await client.expect("event", eventType="task.updated", data={"x": 1}), "eventType", "data", "position")


@pytest_twisted.ensureDeferred
async def test_subscribe_with_since_is_answered_by_what_was_missed_and_then_by_live_events(nodes: Nodes) -> None:
    node = await nodes()
    publisher, client = await node.client(), await node.client()
    first = (await publisher.ask(type="publish", eventType="a.b", data=1))["position"]
    for number in (2, 3):
        await publisher.ask(type="publish", eventType="a.b", data=number)
    reply = await client.ask(type="subscribe", events=["a.*"], since={"a.b": first})
    assert (reply["recovered"], reply["positions"]) == ({"a.b": True}, {"a.b": first})
    await publisher.ask(type="publish", eventType="a.b", data=4)
    events = await client.heard()
    assert [event["data"] for event in events] == [2, 3, 4]
    assert [event["position"].rpartition(":")[2] for event in events] == ["2", "3", "4"]
    assert "recovered" not in await client.ask(type="subscribe", events=["e.f"])


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("place", ["", "a", "a:", ":1", "a:-1", "a:01", "a:1.0", "a:1:2", "a b:1", "a:9007199254740993"])
async def test_a_position_that_is_none_is_refused_by_the_name_of_its_type(nodes: Nodes, place: str) -> None:
    client = await (await nodes()).client()
    error = await client.ask(type="subscribe", events=["a.b"], since={"a.b": place})
    assert (error["code"], error["message"].partition(": ")[2].partition(":")[0]) == ("invalid_message", "since.a.b")
    error = await client.ask(type="subscribe", events=["a.*"], since={"a.*": "e:1"})
    assert (error["code"], error["message"].partition(": ")[2].partition(":")[0]) == ("invalid_message", "since")
    await client.ask(type="publish", eventType="a.b", data=1)
    assert await client.heard() == [], "a subscription that was refused does not stand"


@pytest_twisted.ensureDeferred
async def test_subscribe_with_filters_gets_only_what_is_equal_in_every_member(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("a.b", filters={"agentId": "agent-001", "n": 1})
    for data in (
        {"agentId": "agent-001", "n": 1.0, "more": 2},
        {"agentId": "agent-001", "n": True},
        {"agentId": "agent-001"},
        {"agentId": "agent-002", "n": 1},
        "agent-001",
        None,
    ):
        await client.ask(type="publish", eventType="a.b", data=data)
    assert [event["data"] for event in await client.heard()] == [{"agentId": "agent-001", "n": 1.0, "more": 2}]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("filters", "data", "passes"),
    [
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2}]}, True),
        ({"a": {}}, {"a": {}}, True),
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a.b": 1, "a": {"b": 2}}, True),
        ({"a": {"gt": 1, "lte": 3}}, {"a": 3}, True),
        ({"a": {"gt": 1}}, {"a": "2"}, False),
        ({"a": {"gte": "b"}}, {"a": "c"}, True),
        ({"a": {"lt": 1}}, {}, False),
        ({"a": {"ne": 1}}, {}, True),
        ({"a": {"exists": False}}, {}, True),
        ({"a": {"in": [1, "x"]}}, {"a": "x"}, True),
        ({"a": {"prefix": "web-"}}, {"a": "web-1"}, True),
        ({"a": {"gt": 1, "other": 2}}, {"a": {"gt": 1, "other": 2}}, True),
        ({}, {"a": 1}, True),
    ],
)
async def test_filters_compare_as_the_contract_says(
    nodes: Nodes, filters: dict[str, Any], data: dict[str, Any], passes: bool
) -> None:
    client = await (await nodes()).client()
    await client.subscribe("a.b", filters=filters)
    await client.ask(type="publish", eventType="a.b", data=data)
    assert len(await client.heard()) == passes


@pytest_twisted.ensureDeferred
async def test_an_event_that_matches_several_subscriptions_is_delivered_once(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    for events in (["a.b"], ["a.*", "**"], ["*.b"]):
        await client.subscribe(*events)
        await client.subscribe(*events, filters={"x": 1})
    await client.ask(type="publish", eventType="a.b", data={"x": 1})
    assert len(await client.heard()) == 1


@pytest_twisted.ensureDeferred
async def test_unsubscribe_drops_all_pairs_written_with_that_same_string_and_nothing_else(nodes: Nodes) -> None:
    node = await nodes()
    client, other = await node.client(), await node.client()
    for each in (client, other):
        await each.subscribe("a.b")
    await client.subscribe("a.b", filters={"x": 1})
    await client.subscribe("a.*", filters={"y": 1})
    client.send(type="unsubscribe", events=["a.b", "never.subscribed"])
    shaped(await client.expect("unsubscribed", events=["a.b", "never.subscribed"]), "events", "timestamp")
    for data in ({"x": 1}, {"y": 1}):
        await other.ask(type="publish", eventType="a.b", data=data)
    assert [event["data"] for event in await client.heard()] == [{"y": 1}]
    assert len(await other.heard()) == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("task.*", ["task.a"], ["task", "task.a.b", "other.a"]),
        ("*.done", ["task.done"], ["done", "a.b.done"]),
        ("task.**", ["task.a", "task.a.b"], ["task", "tasks.a"]),
        ("a.*.c.**", ["a.b.c.d", "a.b.c.d.e"], ["a.b.c", "a.c.d"]),
        ("**", ["a", "a.b"], []),
        ("*", ["a"], ["a.b"]),
    ],
)
async def test_patterns_stand_for_what_the_contract_says(
    nodes: Nodes, pattern: str, matching: list[str], others: list[str]
) -> None:
    node = await nodes()
    client, publisher = await node.client(), await node.client()
    await client.subscribe(pattern)
    for name in matching + others:
        await publisher.ask(type="publish", eventType=name, data=1)
    assert [event["eventType"] for event in await client.heard()] == matching


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "name", ["", "a..b", ".a", "a.", "a b", "a\tb", "a\u2028b", "a#", "a.**.b", "a*", "x" * 256, "ä" * 128]
)
async def test_what_is_no_name_or_pattern_is_refused_everywhere(nodes: Nodes, name: str) -> None:
    client = await (await nodes()).client()
    for message in (
        {"type": "subscribe", "events": ["good.one", name]},
        {"type": "publish", "eventType": name, "data": 1},
        {"type": "register", "commands": [name]},
        {"type": "register", "commands": ["x"], "agentId": name},
        {"type": "telemetry", "agentId": name, "metrics": {"x": 1}},
        {"type": "command", "command": name},
        {"type": "command", "command": "x", "target": name},
    ):
        reply = await client.ask(**message)
        assert (reply["type"], reply.get("code")) == ("error", "invalid_message"), message
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_a_name_may_have_255_bytes(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    name = "ä" * 127 + "x"
    await client.subscribe(name)
    await client.ask(type="publish", eventType=name, data=1)
    await client.expect("event", eventType=name)


@pytest_twisted.ensureDeferred
async def test_nothing_of_a_refused_subscribe_takes_effect(nodes: Nodes) -> None:
    node = await nodes(with_roles(agent=Role(subscribe=("a.*",), publish=("**",))))
    client = await node.client("agent-token")
    for events in (["a.b", "c.d"], ["a.b", "**"], ["a.b", "a..b"]):
        assert (await client.ask(type="subscribe", events=events))["type"] == "error"
    await client.ask(type="publish", eventType="a.b", data=1)
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_limits_of_subscriptions_and_filters(nodes: Nodes) -> None:
    node = await nodes(limited(subscriptions=3, filter_nodes=4))
    assert (Limits().subscriptions, Limits().filter_nodes) == (128, 64)
    client = await node.client()
    assert client.welcome["limits"]["subscriptions"] == 3
    await client.subscribe("a", "b", "c")
    await client.subscribe("a", "b")
    assert (await client.ask(type="subscribe", events=["d"]))["code"] == "limit_exceeded"
    assert (await client.ask(type="subscribe", events=["a"], filters={"x": 1}))["code"] == "limit_exceeded"
    await client.ask(type="unsubscribe", events=["a"])
    await client.subscribe("d", filters={"x": [1, 2, 3]})
    await client.ask(type="unsubscribe", events=["d"])
    assert (await client.ask(type="subscribe", events=["e"], filters={"x": [1, 2, 3, 4]}))["code"] == "limit_exceeded"
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_1024_commands_can_be_registered_and_subscriptions_have_a_limit_of_their_own(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    assert client.welcome["limits"]["registrations"] == Limits().registrations == 1024
    commands = [f"c{number}" for number in range(1024)]
    assert (await client.ask(type="register", commands=commands))["commands"] == commands
    refused = await client.ask(type="register", commands=["c1024"])
    assert (refused["code"], refused["message"]) == ("limit_exceeded", "One connection cannot register more than 1024 commands")
    await client.subscribe("a")


@pytest_twisted.ensureDeferred
async def test_the_two_commonest_typos_are_legal_and_match_nothing_or_all_as_the_page_warns(nodes: Nodes) -> None:
    node = await nodes()
    misspelt_word, misspelt_member = await node.client(), await node.client()
    await misspelt_word.subscribe("a", filters={"cpu": {"get": 90}})
    await misspelt_member.subscribe("a", filter={"cpu": {"gte": 90}})
    for value in (10, 95, {"get": 90}):
        await misspelt_member.ask(type="publish", eventType="a", data={"cpu": value})
    assert [message["data"]["cpu"] for message in await misspelt_word.heard()] == [{"get": 90}]
    assert [message["data"]["cpu"] for message in await misspelt_member.heard()] == [10, 95, {"get": 90}]


# --- ping, pong


@pytest_twisted.ensureDeferred
async def test_ping_is_answered_by_pong(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    client.send(type="ping")
    shaped(await client.expect("pong"), "timestamp")


@pytest_twisted.ensureDeferred
async def test_pong_is_answered_by_nothing(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    client.send(type="pong")
    client.send(type="pong", timestamp="whatever", id=1)
    assert await client.heard() == []


# --- publish


@pytest_twisted.ensureDeferred
async def test_publish_is_answered_by_published_and_a_subscribed_publisher_gets_its_own(nodes: Nodes) -> None:
    client = await (await nodes()).client()
    await client.subscribe("a.b")
    client.send(type="publish", eventType="a.b", data=[1, {"x": None}])
    received = [await client.receive(), await client.receive()]
    published, event = sorted(received, key=lambda message: str(message["type"]), reverse=True)
    shaped(published, "eventType", "timestamp", "position")
    assert published["eventType"] == "a.b"
    assert event == {
        "type": "event",
        "eventType": "a.b",
        "data": [1, {"x": None}],
        "position": published["position"],
    }


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "text", ["null", "0", "-0.0", "1e400", "12345678901234567890123", '"\\u00e4\\n"', "[]", "{}", '{"b":1,"a":2,"b":3}', " 1 "]
)
async def test_data_may_be_any_json_and_arrives_as_it_was_sent(nodes: Nodes, text: str) -> None:
    client = await (await nodes()).client()
    await client.subscribe("a.b")
    client.send_text(f'{{"type":"publish","eventType":"a.b","data":{text}}}')
    first = await client.receive()
    if first["type"] == "error":
        assert text == "1e400", "a number that no JSON library can hold may be refused"
        return
    messages = [first, await client.receive()]
    assert {message["type"] for message in messages} == {"published", "event"}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("name", ["nexus.broadcast", "nexus.a.b", "wamp.session.on_join"])
async def test_reserved_names_cannot_be_published(nodes: Nodes, name: str) -> None:
    client = await (await nodes()).client()
    assert (await client.ask(type="publish", eventType=name, data=1))["code"] == "forbidden"


@pytest_twisted.ensureDeferred
async def test_depth_bounds_everything_that_is_kept_or_passed_on(nodes: Nodes) -> None:
    node = await nodes(limited(depth=3))
    assert Limits().depth == 32
    client = await agent_with(await node.client(), "x", agent_id="agent-1")
    caller = await node.client()
    deep, deepest = [[[1]]], [[[[1]]]]
    metrics = {"a": {"b": {"c": 1}}}
    assert (await client.ask(type="publish", eventType="a.b", data=deep))["type"] == "published"
    assert (await client.ask(type="telemetry", agentId="a", metrics=metrics))["type"] == "telemetry_ack"
    for words in (
        {"type": "publish", "eventType": "a.b", "data": deepest},
        {"type": "telemetry", "agentId": "a", "metrics": {"deep": metrics}},
        {"type": "command", "command": "x", "parameters": deepest},
    ):
        assert (await caller.ask(**words))["code"] == "invalid_message", words
    caller.send(type="command", command="x", commandId="c-1", parameters=deep)
    await client.expect("command", parameters=deep)
    for kind in ("command_progress", "command_result"):
        assert (await client.ask(type=kind, commandId="c-1", data=deepest))["code"] == "invalid_message"
    client.send(type="command_result", commandId="c-1", data=deep)
    await caller.expect("command_result", status="success")


# --- telemetry


@pytest_twisted.ensureDeferred
async def test_telemetry_is_acknowledged_once_it_is_stored(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    client.send(type="telemetry", agentId="agent-001", metrics={"cpu": 45.2, "ok": True, "name": "x", "disk": {"a": {"b": 1}}})
    shaped(await client.expect("telemetry_ack"), "timestamp")
    store: Any = node.server._store
    (sample,) = await store.samples("agent-001", 0, 2**60, 10)
    assert sample.metrics == b'{"cpu":45.2,"ok":true,"name":"x","disk.a.b":1}'


@pytest_twisted.ensureDeferred
async def test_telemetry_may_say_when_it_was_taken(nodes: Nodes) -> None:
    node = await nodes(Settings(store=Store(retention="0")))
    client = await node.client()
    await client.subscribe("telemetry.received")
    reply = await client.ask(
        type="telemetry", agentId="a", metrics={"x": 1}, timestamp="2026-01-31T13:00:00.5+01:00"
    )
    assert reply["type"] == "telemetry_ack"
    data = (await client.expect("event"))["data"]
    assert data == {"agentId": "a", "metrics": {"x": 1}, "timestamp": "2026-01-31T12:00:00.500Z"}


@pytest_twisted.ensureDeferred
async def test_a_sample_of_1970_or_9999_is_refused_not_acknowledged_and_pruned_or_kept_for_ever(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    await client.subscribe("telemetry.received")
    day = 86400
    for ago, why in (
        (clock.seconds(), "is longer ago than telemetry is kept (2592000 s, store.retention)"),
        (30 * day + 10, "is longer ago than telemetry is kept (2592000 s, store.retention)"),
        (-day - 10, "is more than 86400 s (limits.ahead) ahead of the server's clock"),
        (clock.seconds() - 253402300799, "is more than 86400 s (limits.ahead) ahead of the server's clock"),
    ):
        timestamp = format_millis(int((clock.seconds() - ago) * 1000))
        refused = await client.ask(type="telemetry", agentId="a", metrics={"x": 1}, timestamp=timestamp)
        assert (refused["type"], refused["code"], refused["retryable"]) == ("error", "limit_exceeded", False)
        assert refused["message"] == f"Telemetry submission failed: timestamp: {timestamp} {why}"
    assert await client.heard() == []
    for ago in (30 * day - 10, 0, -day + 10):
        timestamp = format_millis(int((clock.seconds() - ago) * 1000))
        taken = await client.ask(type="telemetry", agentId="a", metrics={"x": 1}, timestamp=timestamp)
        assert taken["type"] == "telemetry_ack"
        assert (await client.expect("event"))["data"]["timestamp"] == timestamp


@pytest_twisted.ensureDeferred
async def test_what_is_kept_for_ever_and_may_be_ahead_as_far_as_it_likes_is_taken_of_any_year(nodes: Nodes) -> None:
    node = await nodes(Settings(store=Store(retention="0"), limits=Limits(ahead=0)))
    client = await node.client()
    for timestamp in ("0001-01-01", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"):
        reply = await client.ask(type="telemetry", agentId="a", metrics={"x": 1}, timestamp=timestamp)
        assert reply["type"] == "telemetry_ack", timestamp


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("metrics", [{}, [], 1, None, {"x": None}, {"x": [1]}, {"": 1}, {"x": {}}])
async def test_metrics_are_a_non_empty_object_of_numbers_booleans_strings_and_objects_of_these(
    nodes: Nodes, metrics: Any
) -> None:
    client = await (await nodes()).client()
    reply = await client.ask(type="telemetry", agentId="a", metrics=metrics)
    assert (reply["type"], reply["code"]) == ("error", "invalid_message")
    assert "metrics" in reply["message"]


def samples(*ids: str | None, **more: Any) -> dict[str, Any]:
    """Return a message with a sample for each of these ids; its metrics tell which it is."""
    at = format_millis(int(clock.seconds() * 1000))
    given = [{"timestamp": at, "metrics": {"n": number}} for number in range(len(ids))]
    given = [each if id_ is None else {**each, "id": id_} for each, id_ in zip(given, ids, strict=True)]
    return {"type": "telemetry", "agentId": "a", "samples": given, **more}


@pytest_twisted.ensureDeferred
async def test_samples_that_are_sent_again_after_a_reconnect_are_stored_and_announced_once(nodes: Nodes) -> None:
    node = await nodes()
    watcher, client = await node.client(), await node.client()
    await watcher.subscribe("telemetry.received")
    reply = await client.ask(**samples("s-1", "s-2", "s-2", None))
    shaped(reply, "timestamp", "id", "stored", "duplicates")
    assert (reply["type"], reply["stored"], reply["duplicates"]) == ("telemetry_ack", 3, 1)
    again = await (await node.client()).ask(**samples("s-1", "new", "s-2"))
    assert (again["stored"], again["duplicates"]) == (1, 2)
    other = await client.ask(**{**samples("s-1"), "agentId": "b"})
    assert (other["stored"], other["duplicates"]) == (1, 0), "an id belongs to its agent"
    told = [(await watcher.expect("event"))["data"] for _ in range(5)]
    assert [(data["agentId"], data["metrics"]["n"]) for data in told] == [("a", 0), ("a", 1), ("a", 3), ("a", 1), ("b", 0)]
    assert await watcher.heard() == []
    store: Any = node.server._store
    assert [len(await store.samples(agent, 0, 2**60, 10)) for agent in "ab"] == [4, 1]


@pytest_twisted.ensureDeferred
async def test_one_bad_sample_refuses_all_of_its_message_and_is_named(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    message = samples("s-1", "s-2", "s-3")
    message["samples"][2]["metrics"] = {"cpu": None}
    reply = await client.ask(**message)
    assert (reply["type"], reply["code"]) == ("error", "invalid_message")
    assert reply["message"].startswith("Invalid message format: samples[2].metrics.cpu: ")
    many = await client.ask(**samples(*[None] * 1001))
    assert (many["code"], many["retryable"]) == ("limit_exceeded", False)
    assert many["message"] == "Telemetry submission failed: samples: more than 1000 in one message"
    store: Any = node.server._store
    assert await store.samples("a", 0, 2**60, 10) == []


@pytest_twisted.ensureDeferred
async def test_each_sample_of_a_message_counts_in_the_rate_of_messages(nodes: Nodes) -> None:
    node = await nodes(Settings(limits=Limits(rate=50)))
    client = await node.client()
    await client.ask(**samples(*[None] * 45))
    assert node.metrics.reads_paused == 0
    await client.ask(**samples(*[None] * 45))
    assert node.metrics.reads_paused == 1


# --- command


@pytest_twisted.ensureDeferred
async def test_a_command_gets_progress_and_then_a_result(nodes: Nodes) -> None:
    node = await nodes()
    agent, caller = await agent_with(await node.client(), "deploy"), await node.client()
    caller.send(type="command", command="deploy", parameters={"version": 2}, id=7)
    command = await agent.expect("command", command="deploy", parameters={"version": 2})
    command_id = command["commandId"]
    for done in (10, 90):
        agent.send(type="command_progress", commandId=command_id, data={"done": done})
    agent.send(type="command_result", commandId=command_id, data={"ok": True})
    for done in (10, 90):
        progress = await caller.expect("command_progress", commandId=command_id, data={"done": done}, id=7)
        shaped(progress, "id", "commandId", "agentId", "data")
    result = await caller.expect("command_result", commandId=command_id, status="success", id=7)
    shaped(result, "id", "commandId", "status", "data")
    assert result["data"] == {"commandId": command_id, "command": "deploy", "status": "executed", "result": {"ok": True}}


@pytest_twisted.ensureDeferred
async def test_a_command_may_be_executed_by_the_server_itself(nodes: Nodes) -> None:
    async def add(invoked: Any) -> int:
        invoked.progress("adding")
        return sum(invoked.parameters["numbers"])

    def fail(_invoked: Any) -> None:
        raise ValueError("no such luck")

    node = await nodes(commands={"add": add, "fail": fail})
    client = await node.client()
    client.send(type="command", command="add", parameters={"numbers": [1, 2]})
    progress = await client.expect("command_progress", data="adding")
    shaped(progress, "commandId", "data")
    assert (await client.expect("command_result"))["data"]["result"] == 3
    error = await client.ask(type="command", command="fail")
    assert error["message"] == "Command execution failed: no such luck"
    assert error["code"] == "failed"


@pytest_twisted.ensureDeferred
async def test_target_chooses_the_agent(nodes: Nodes) -> None:
    node = await nodes()
    agents = {name: await agent_with(await node.client(), "x", agent_id=name) for name in ("one", "two")}
    caller = await node.client()
    for name, agent in agents.items():
        caller.send(type="command", command="x", target=name)
        command = await agent.expect("command")
        agent.send(type="command_result", commandId=command["commandId"], data=name)
        assert (await caller.expect("command_result"))["data"]["result"] == name


@pytest_twisted.ensureDeferred
async def test_a_list_as_target_gets_one_result_per_agent_and_one_for_the_whole(nodes: Nodes) -> None:
    node = await nodes()
    agents = [await agent_with(await node.client(), "x", agent_id=name) for name in ("one", "two")]
    caller = await node.client()
    await caller.subscribe("task.updated")
    caller.send(type="command", command="x", target=["one", "two", "away"], commandId="c-1", id="q")
    first = await agents[0].expect("command", commandId="c-1")
    await agents[1].expect("command", commandId="c-1")
    agents[0].send(type="command_result", commandId=first["commandId"], data=1)
    agents[1].send(type="command_result", commandId=first["commandId"], status="error", message="no")
    messages: list[dict[str, Any]] = []
    while len([message for message in messages if message["type"] == "command_result"]) < 4:
        messages.append(await caller.receive())
    messages += await caller.heard()
    results = [message for message in messages if message["type"] == "command_result"]
    by_agent = {result["agentId"]: result for result in results[:-1]}
    assert all(result["id"] == "q" and result["commandId"] == "c-1" for result in results)
    assert by_agent["one"]["status"] == "success" and by_agent["one"]["data"]["result"] == 1
    assert (by_agent["two"]["status"], by_agent["two"]["code"]) == ("error", "failed")
    assert by_agent["two"]["message"] == "Command execution failed: no"
    assert (by_agent["away"]["status"], by_agent["away"]["code"]) == ("error", "agent_offline")
    whole = results[-1]
    assert "agentId" not in whole and whole["status"] == "success"
    assert whole["data"]["status"] == "executed" and whole["data"]["command"] == "x"
    outcomes = {outcome.pop("agentId"): outcome for outcome in whole["data"]["results"]}
    assert outcomes["one"] == {"status": "success", "result": 1}
    assert outcomes["two"] == {"status": "error", "code": "failed", "message": "Command execution failed: no"}
    assert outcomes["away"]["code"] == "agent_offline"
    updates = [message["data"] for message in messages if message["type"] == "event"]
    assert [update["status"] for update in updates if "agentId" not in update] == ["completed"]
    assert [update["status"] for update in updates if update.get("agentId") == "one"] == ["sent", "completed"]


@pytest_twisted.ensureDeferred
async def test_the_same_command_id_executes_once_and_is_answered_with_the_result(nodes: Nodes) -> None:
    node = await nodes()
    agent, caller = await agent_with(await node.client(), "x"), await node.client()
    caller.send(type="command", command="x", commandId="chosen", id=1)
    await agent.expect("command", commandId="chosen")
    again = await node.client()
    again.send(type="command", command="x", commandId="chosen", id=2)
    assert await again.heard() == []
    agent.send(type="command_result", commandId="chosen", data="done")
    assert (await caller.expect("command_result", id=1))["data"]["result"] == "done"
    assert (await again.expect("command_result", id=2))["data"]["result"] == "done"
    later = await node.client()
    assert (await later.ask(type="command", command="x", commandId="chosen"))["data"]["result"] == "done"
    assert await agent.heard() == []


@pytest_twisted.ensureDeferred
async def test_a_command_id_of_another_subject_is_forbidden(nodes: Nodes) -> None:
    node = await nodes(with_roles(one=Role(call=("**",)), two=Role(call=("**",))))
    await agent_with(await node.client(), "x")
    one, two = await node.client("one-token"), await node.client("two-token")
    one.send(type="command", command="x", commandId="mine")
    await one.heard()
    assert (await two.ask(type="command", command="x", commandId="mine"))["code"] == "forbidden"
    assert (await two.ask(type="cancel", commandId="mine"))["code"] == "forbidden"


@pytest_twisted.ensureDeferred
async def test_a_command_without_ttl_fails_at_once_where_nobody_can_execute_it(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    words: dict[str, Any]
    for words, code, retryable in (({}, "no_such_command", False), ({"target": "away"}, "agent_offline", True)):
        reply = await client.ask(type="command", command="x", **words)
        assert (reply["type"], reply["code"], reply["retryable"]) == ("error", code, retryable)
    # With a list it is the result of the agent concerned.
    reply = await client.ask(type="command", command="x", target=["away"])
    assert (reply["type"], reply["agentId"], reply["code"]) == ("command_result", "away", "agent_offline")


@pytest_twisted.ensureDeferred
async def test_a_command_with_ttl_waits_for_its_agent(nodes: Nodes) -> None:
    node = await nodes()
    caller = await node.client()
    await caller.subscribe("task.updated")
    caller.send(type="command", command="x", target="late", ttl=30, commandId="c-1")
    assert (await caller.expect("event"))["data"]["status"] == "queued"
    agent = await node.client()
    agent.send(type="register", commands=["x"], agentId="late")
    await agent.expect("registered")
    await agent.expect("command", commandId="c-1", attempt=1)
    agent.send(type="command_result", commandId="c-1")
    statuses = [(await caller.expect("event"))["data"]["status"] for _ in range(1)]
    result = await caller.receive()
    while result["type"] != "command_result":
        statuses.append(result["data"]["status"])
        result = await caller.receive()
    assert statuses[0] == "sent"
    assert result["data"]["result"] is None


@pytest_twisted.ensureDeferred
async def test_a_command_whose_ttl_or_timeout_is_over_ends_so(nodes: Nodes) -> None:
    node = await nodes()
    agent, caller = await agent_with(await node.client(), "x", agent_id="here"), await node.client()
    expired = await caller.ask(type="command", command="x", target="away", ttl=0.05)
    assert (expired["code"], expired["retryable"]) == ("expired", False)
    timeout = await caller.ask(type="command", command="x", timeout=0.05, commandId="c-2")
    assert (timeout["code"], timeout["retryable"], timeout["commandId"]) == ("timeout", True, "c-2")
    await agent.expect("command", commandId="c-2")
    shaped(await agent.expect("command_cancel", commandId="c-2", reason="timeout"), "commandId", "reason")
    agent.send(type="command_result", commandId="c-2", data="too late")
    assert await agent.heard() == []
    assert await caller.heard() == []


@pytest_twisted.ensureDeferred
async def test_an_agent_that_vanishes_gets_it_again_only_if_the_caller_allowed_retries(nodes: Nodes) -> None:
    node = await nodes()
    for retries in (0, 1):
        agent, caller = await agent_with(await node.client(), "x", agent_id="agent"), await node.client()
        caller.send(type="command", command="x", target="agent", retries=retries, commandId=f"c-{retries}")
        await agent.expect("command", attempt=1)
        agent.drop()
        if retries == 0:
            error = await caller.expect("error", code="agent_lost", commandId="c-0")
            assert error["retryable"] is True
            continue
        again = await agent_with(await node.client(), "x", agent_id="agent")
        await again.expect("command", commandId="c-1", attempt=2)
        again.send(type="command_result", commandId="c-1", data=2)
        assert (await caller.expect("command_result"))["data"]["result"] == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "words",
    [
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": 1e9},
        {"timeout": "30"},
        {"ttl": -1},
        {"retries": -1},
        {"retries": 1.5},
        {"commandId": ""},
        {"commandId": 5},
        {"commandId": "x" * 256},
        {"target": []},
        {"target": 5},
        {"target": [5]},
        {"command": None},
    ],
)
async def test_a_member_of_the_wrong_shape_is_named(nodes: Nodes, words: dict[str, Any]) -> None:
    client = await (await nodes()).client()
    reply = await client.ask(**{"type": "command", "command": "x", **words})
    assert (reply["type"], reply["code"]) == ("error", "invalid_message")
    assert next(iter(words)) in reply["message"]


# --- cancel


@pytest_twisted.ensureDeferred
async def test_cancel_ends_the_command_for_everybody(nodes: Nodes) -> None:
    node = await nodes()
    agent, caller = await agent_with(await node.client(), "x"), await node.client()
    caller.send(type="command", command="x", commandId="c-1", id="call")
    await agent.expect("command")
    await caller.subscribe("task.updated")
    caller.send(type="cancel", commandId="c-1", id="cancel")
    messages = [await caller.receive() for _ in range(3)]
    errors = {message["id"]: message for message in messages if message["type"] == "error"}
    assert errors.keys() == {"call", "cancel"}
    for error in errors.values():
        assert (error["code"], error["commandId"], error["retryable"]) == ("cancelled", "c-1", False)
    assert [message["data"]["status"] for message in messages if message["type"] == "event"] == ["cancelled"]
    await agent.expect("command_cancel", commandId="c-1", reason="cancelled")
    assert (await caller.ask(type="cancel", commandId="c-1"))["code"] == "not_found"


@pytest_twisted.ensureDeferred
async def test_cancel_is_for_the_caller_and_for_admins(nodes: Nodes) -> None:
    node = await nodes(with_roles(one=Role(call=("**",)), two=Role(call=("**",))))
    await agent_with(await node.client(), "x")
    one, two, admin = await node.client("one-token"), await node.client("two-token"), await node.client()
    one.send(type="command", command="x", commandId="c-1")
    await one.heard()
    assert (await two.ask(type="cancel", commandId="c-1"))["code"] == "forbidden"
    assert (await admin.ask(type="cancel", commandId="c-1"))["code"] == "cancelled"
    await one.expect("error", code="cancelled", commandId="c-1")
    assert (await one.ask(type="cancel", commandId="unknown"))["code"] == "not_found"


# --- register, unregister


@pytest_twisted.ensureDeferred
async def test_register_and_unregister_are_answered_with_the_commands(nodes: Nodes) -> None:
    node = await nodes()
    client, caller = await node.client(), await node.client()
    client.send(type="register", commands=["a", "b.c"])
    shaped(await client.expect("registered", commands=["a", "b.c"]), "commands", "timestamp")
    client.send(type="unregister", commands=["a", "never"])
    shaped(await client.expect("unregistered", commands=["a", "never"]), "commands", "timestamp")
    assert (await caller.ask(type="command", command="a"))["code"] == "no_such_command"
    caller.send(type="command", command="b.c")
    await client.expect("command", command="b.c")


@pytest_twisted.ensureDeferred
async def test_register_without_an_agent_id_uses_the_connections_client_id(nodes: Nodes) -> None:
    node = await nodes()
    watcher = await node.client()
    await watcher.subscribe("agent.status")
    client = await agent_with(await node.client(), "x")
    status = (await watcher.expect("event"))["data"]
    assert (status["agentId"], status["status"]) == (client.client_id, "online")
    watcher.send(type="command", command="x", target=client.client_id)
    await client.expect("command")


@pytest_twisted.ensureDeferred
async def test_a_result_that_is_too_long_is_told_and_no_further_agent_has_to_send_it(nodes: Nodes) -> None:
    node = await nodes()
    first = await agent_with(await node.client(), "x", agent_id="first")
    caller = await node.client()
    caller.send(type="command", command="x", retries=5, commandId="c")
    await first.expect("command")
    second = await agent_with(await node.client(), "x", agent_id="second")
    first.send(type="command_result", commandId="c", data="x" * 262144)
    assert (await first.closed())[0] == 1009
    error = await caller.expect("error", code="too_large", commandId="c")
    assert error["retryable"] is False and "1009" in error["message"]
    assert await second.heard() == []


@pytest_twisted.ensureDeferred
async def test_a_second_connection_that_registers_under_an_agent_id_replaces_the_first(nodes: Nodes) -> None:
    node = await nodes()
    first = await agent_with(await node.client(), "x", agent_id="agent")
    caller = await node.client()
    caller.send(type="command", command="x", target="agent")
    await first.expect("command")
    second = await agent_with(await node.client(), "x", agent_id="agent")
    assert await first.closed() == (4003, "Replaced by a newer connection")
    assert first.left[-1]["type"] == "disconnect" and first.left[-1]["reconnect"] is False
    await caller.expect("error", code="agent_lost")
    caller.send(type="command", command="x", target="agent")
    await second.expect("command")


@pytest_twisted.ensureDeferred
async def test_a_connection_that_only_sends_telemetry_replaces_nobody(nodes: Nodes) -> None:
    node = await nodes()
    first = await agent_with(await node.client(), "x", agent_id="agent")
    second = await node.client()
    await second.ask(type="telemetry", agentId="agent", metrics={"x": 1})
    assert await first.heard() == []


# --- command_progress, command_result


@pytest_twisted.ensureDeferred
async def test_results_and_progress_of_a_command_that_one_does_not_execute_are_refused(nodes: Nodes) -> None:
    node = await nodes()
    agent, caller, stranger = await agent_with(await node.client(), "x"), await node.client(), await node.client()
    caller.send(type="command", command="x", commandId="c-1")
    await agent.expect("command")
    for kind in ("command_progress", "command_result"):
        assert (await stranger.ask(type=kind, commandId="c-1", data=1))["code"] == "not_found"
    assert await caller.heard() == []
    agent.send(type="command_result", commandId="c-1", status="error", message="out of disk")
    error = await caller.expect("error", code="failed", commandId="c-1")
    assert error["message"] == "Command execution failed: out of disk"
    assert await agent.heard() == []


# --- rights


@pytest_twisted.ensureDeferred
async def test_each_right_is_needed_and_denied_by_default(nodes: Nodes) -> None:
    role = Role(subscribe=("s.*",), publish=("p.*",), call=("c.*",), register=("r.*",), telemetry=("{subject}",))
    node = await nodes(with_roles(agent=role, nobody=Role()))
    agent, nobody = await node.client("agent-token"), await node.client("nobody-token")
    messages: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"type": "subscribe", "events": ["s.a"]}, {"events": ["p.a"]}, "subscribed"),
        ({"type": "publish", "eventType": "p.a", "data": 1}, {"eventType": "s.a"}, "published"),
        ({"type": "register", "commands": ["r.a"]}, {"commands": ["r.a", "c.a"]}, "registered"),
        ({"type": "register", "commands": ["r.a"], "agentId": "agent"}, {"agentId": "other"}, "registered"),
        ({"type": "telemetry", "agentId": "agent", "metrics": {"x": 1}}, {"agentId": "other"}, "telemetry_ack"),
        ({"type": "command", "command": "c.a"}, {"command": "r.a"}, "error"),
    ]
    for message, changed, good in messages:
        reply = await agent.ask(**message)
        assert reply["type"] == good and reply.get("code") in (None, "no_such_command")
        for client, words in ((agent, {**message, **changed}), (nobody, message)):
            error = await client.ask(**words)
            assert (error["type"], error.get("code"), error.get("retryable")) == ("error", "forbidden", False), words


@pytest_twisted.ensureDeferred
async def test_who_may_subscribe_to_a_pattern_must_be_allowed_all_of_it(nodes: Nodes) -> None:
    node = await nodes(Settings(**_roles(Role(subscribe=("task.**", "agent.*.status")))))
    client = await node.client("agent-token")
    for pattern, allowed in (
        ("task.a", True),
        ("task.*", True),
        ("task.**", True),
        ("task.*.x", True),
        ("agent.*.status", True),
        ("agent.a.status", True),
        ("task", False),
        ("**", False),
        ("*.a", False),
        ("agent.**", False),
        ("agent.*.*", False),
    ):
        reply = await client.ask(type="subscribe", events=[pattern])
        assert (reply["type"] == "subscribed") is allowed, pattern


def _roles(role: Role) -> dict[str, Any]:
    settings = with_roles(agent=role)
    return {"roles": settings.roles, "auth": settings.auth}


@pytest_twisted.ensureDeferred
async def test_the_same_command_id_with_another_command_parameters_or_target_is_invalid_message(nodes: Nodes) -> None:
    node = await nodes()
    agent, caller = await node.client(), await node.client()
    await agent.ask(type="register", agentId="one", commands=["x", "y"])
    asked: dict[str, Any] = {"command": "x", "parameters": {"a": 1, "b": [True]}, "target": ["one", "two"], "commandId": "c-1"}
    caller.send(type="command", **asked, id="first")
    await agent.expect("command", commandId="c-1")
    for ended in (False, True):
        for member, value, what in (
            ("command", "y", "another command"),
            ("parameters", {"a": 1, "b": [1]}, "other parameters"),
            ("parameters", {}, "other parameters"),
            ("target", "one", "another target"),
            ("target", ["one"], "another target"),
            ("target", None, "another target"),
        ):
            refused = await caller.ask(type="command", **{**asked, member: value})
            assert (refused["code"], refused["commandId"]) == ("invalid_message", "c-1"), (ended, value)
            assert refused["message"] == f"Invalid message format: commandId: was used with {what}"
        if not ended:
            agent.send(type="command_result", commandId="c-1", data="done")
    same = {**asked, "parameters": {"b": [True], "a": 1}, "target": ["two", "one", "two"], "timeout": 5, "retries": 1}
    caller.send(type="command", **same, id="again")
    while (message := await caller.expect("command_result", commandId="c-1")).get("id") != "again" or "agentId" in message:
        pass
    assert [outcome["status"] for outcome in message["data"]["results"]] == ["success", "error"]
    assert await agent.heard() == [], "nothing is executed a second time"


@pytest_twisted.ensureDeferred
async def test_an_error_for_a_command_echoes_the_command_id_its_caller_chose_also_where_it_was_refused(nodes: Nodes) -> None:
    node = await nodes(with_roles(caller=Role(call=("x",)), nobody=Role()))
    caller = await node.client("caller-token")
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"type": "command", "command": "x"}, "no_such_command"),
        ({"type": "command", "command": "x", "target": "away"}, "agent_offline"),
        ({"type": "command", "command": "y"}, "forbidden"),
        ({"type": "command", "command": "x..y"}, "invalid_message"),
        ({"type": "command", "command": "x", "target": []}, "invalid_message"),
        ({"type": "command", "command": "x", "target": ["a"] * 1001}, "limit_exceeded"),
        ({"type": "command", "command": "x", "parameters": json.loads("[" * 40 + "]" * 40)}, "invalid_message"),
        ({"type": "command"}, "invalid_message"),
        ({"type": "command", "command": 7}, "invalid_message"),
        ({"type": "command", "command": "x", "timeout": -1}, "invalid_message"),
        ({"type": "command", "command": "x", "ttl": "long"}, "invalid_message"),
        ({"type": "cancel"}, "not_found"),
        ({"type": "command_result"}, "not_found"),
        ({"type": "command_progress"}, "not_found"),
        ({"type": "command_result", "status": "odd"}, "invalid_message"),
    ]
    for message, code in refusals:
        refused = await caller.ask(**message, commandId="chosen")
        assert (refused["type"], refused["code"], refused["commandId"]) == ("error", code, "chosen"), message
    for unfit in ("", "x" * 256, 7, None, ["chosen"]):
        refused = await caller.ask(type="command", command=7, commandId=unfit)
        assert refused["code"] == "invalid_message" and "commandId" not in refused, unfit
    refused = await caller.ask(type="subscribe", events=7, commandId="none of its members")
    assert "commandId" not in refused


@pytest_twisted.ensureDeferred
async def test_who_leaves_waits_no_longer_for_a_command_with_ttl_and_the_oldest_live_waiter_is_kept(nodes: Nodes) -> None:
    node = await nodes()
    oldest = await node.client()
    asked = {"type": "command", "command": "x", "target": "late", "ttl": 60, "commandId": "c-1"}
    oldest.send(**asked, id="oldest")
    await oldest.heard()
    for _ in range(70):
        again = await node.client()
        again.send(**asked)
        assert await again.heard() == []
        again.drop()
        await node.connected(1)
    assert await oldest.heard() == []
    agent = await node.client()
    await agent.ask(type="register", agentId="late", commands=["x"])
    await agent.expect("command", commandId="c-1")
    agent.send(type="command_result", commandId="c-1", data="done")
    result = await oldest.expect("command_result", commandId="c-1", id="oldest")
    assert result["data"]["result"] == "done"


@pytest_twisted.ensureDeferred
async def test_the_session_of_a_caller_that_left_is_not_kept_though_its_command_with_ttl_goes_on(nodes: Nodes) -> None:
    node = await nodes()
    caller = await node.client()
    caller.send(type="command", command="x", target="late", ttl=60, commandId="c-1")
    await caller.heard()
    caller.drop()
    await node.connected(0)
    gc.collect()
    assert not [each for each in gc.get_objects() if isinstance(each, JsonSession) and each.client_id == caller.client_id]
    agent = await node.client()
    await agent.ask(type="register", agentId="late", commands=["x"])
    await agent.expect("command", commandId="c-1")
