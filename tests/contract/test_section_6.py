"""Section 6 of the contract: what is promised, as far as this version promises it, on live nodes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint

from nexus_tw.bus.bounds import Bounds
from nexus_tw.bus.history import History as Histories
from nexus_tw.bus.memory import MemoryBroker, MemoryBus
from nexus_tw.interfaces.plugins import Sample
from nexus_tw.model.metrics import Metrics
from nexus_tw.model.settings import History, Settings
from nexus_tw.model.times import format_millis
from nexus_tw.store.sqlite.store import SqliteStore
from nexus_tw.transport.backlog import HARD
from tests.client import TEXT, dial, frame, greeted, handshake
from tests.contract.shapes import shaped
from tests.e2e.server import NexusServer
from tests.node import Nodes, clock, limited, small_buffers, turns


@pytest_twisted.ensureDeferred
async def test_one_order_per_event_type_for_every_subscriber_on_every_node(nodes: Nodes) -> None:
    broker = MemoryBroker(clock)
    here, there = [await nodes(bus=MemoryBus(broker, name)) for name in ("here", "there")]
    watchers = [await here.client(), await here.client(), await there.client()]
    for watcher, events in zip(watchers, (["a.b", "c.d"], ["**"], ["a.*", "c.*"]), strict=True):
        await watcher.subscribe(*events)
    publishers = [await here.client(), await there.client(), await there.client()]
    shuffle = random.Random(6)
    for number in range(300):
        publisher = shuffle.randrange(3)
        event_type = shuffle.choice(("a.b", "c.d"))
        publishers[publisher].send(type="publish", eventType=event_type, data=[publisher, number])
        if shuffle.random() < 0.1:
            await turns(1)
    seen: list[dict[str, list[Any]]] = []
    for watcher in watchers:
        orders: dict[str, list[Any]] = {"a.b": [], "c.d": []}
        for _ in range(300):
            event = await watcher.expect("event")
            orders[event["eventType"]].append(event["data"])
        seen.append(orders)
    assert seen[0] == seen[1] == seen[2]
    for order in seen[0].values():
        for publisher in range(3):
            mine = [number for who, number in order if who == publisher]
            assert mine == sorted(mine), "what one client published stays in its order"


@pytest_twisted.ensureDeferred
async def test_live_events_come_at_most_once_whatever_subscriptions_change_meanwhile(nodes: Nodes) -> None:
    node = await nodes()
    client, publisher = await node.client(), await node.client()
    shuffle = random.Random(8)
    client.send(type="subscribe", events=["a.b"])
    for number in range(200):
        publisher.send(type="publish", eventType="a.b", data=number)
        kind, text = shuffle.choice((("subscribe", "a.*"), ("unsubscribe", "a.*"), ("subscribe", "**"), ("unsubscribe", "**")))
        client.send(type=kind, events=[text])
        if shuffle.random() < 0.3:
            await turns(1)
    await publisher.heard()
    numbers = [message["data"] for message in await client.heard() if message["type"] == "event"]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 199
    assert numbers == list(range(numbers[0], 200)), "a subscription that stood throughout misses nothing"


@pytest_twisted.ensureDeferred
async def test_without_history_since_is_never_a_partial_replay_and_never_silence(nodes: Nodes) -> None:
    node = await nodes(Settings(history=History(count=0)))
    client = await node.client()
    for number in range(3):
        await client.ask(type="publish", eventType="a.b", data=number)
    reply = await client.ask(type="subscribe", events=["a.b", "c.*"], since={"a.b": "epoch:1", "c.d": "epoch:0"})
    assert reply["recovered"] == {"a.b": False, "c.d": False}
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_what_a_client_missed_comes_in_order_and_once_while_others_publish(nodes: Nodes) -> None:
    node = await nodes()
    publisher = await node.client()
    client = await node.client()
    positions = (await client.ask(type="subscribe", events=["a.b"]))["positions"]
    numbers: list[int] = []
    sent = 0
    for _ in range(5):
        for _ in range(20):
            sent += 1
            publisher.send(type="publish", eventType="a.b", data=sent)
        client.drop()
        await publisher.heard()
        client = await node.client()
        publisher.send(type="publish", eventType="a.b", data=-1)
        client.send(type="subscribe", events=["a.b"], since=positions)
        publisher.send(type="publish", eventType="a.b", data=-2)
        await publisher.heard()
        reply = await client.expect("subscribed")
        events = await client.heard()
        assert reply["recovered"] == {"a.b": True}
        for event in events:
            assert int(event["position"].rpartition(":")[2]) == len(numbers) + 1
            numbers.append(event["data"])
        positions = {"a.b": events[-1]["position"]}
    assert [number for number in numbers if number > 0] == list(range(1, sent + 1))
    assert len(numbers) == sent + 10


@pytest_twisted.ensureDeferred
async def test_if_a_part_of_what_was_missed_is_gone_nothing_of_it_is_replayed(nodes: Nodes) -> None:
    node = await nodes(Settings(history=History(count=5)))
    publisher, client = await node.client(), await node.client()
    told = [await publisher.ask(type="publish", eventType="a.b", data=number) for number in range(8)]
    since = {"a.b": told[1]["position"]}
    reply = await client.ask(type="subscribe", events=["a.b"], since=since)
    assert (reply["recovered"], reply["positions"]) == ({"a.b": False}, {"a.b": told[-1]["position"]})
    await publisher.ask(type="publish", eventType="a.b", data=8)
    assert [event["data"] for event in await client.heard()] == [8]
    reply = await (await node.client()).ask(type="subscribe", events=["a.b"], since={"a.b": "other:3"})
    assert reply["recovered"] == {"a.b": False}


@pytest_twisted.ensureDeferred
async def test_a_pattern_recovers_each_type_also_those_never_seen_if_all_of_them_is_there(nodes: Nodes) -> None:
    node = await nodes(Settings(history=History(count=3)))
    publisher, client = await node.client(), await node.client()
    positions = (await client.ask(type="subscribe", events=["a.*", "z"]))["positions"]
    assert positions.keys() == {"z"}
    client.drop()
    for event_type, number in (("a.seen", 3), ("a.gone", 4)):
        for data in range(number):
            await publisher.ask(type="publish", eventType=event_type, data=data)
    client = await node.client()
    reply = await client.ask(type="subscribe", events=["a.*", "z"], since=positions)
    events = await client.heard()
    assert reply["recovered"] == {"z": True, "a.seen": True, "a.gone": False}
    assert reply["positions"]["a.seen"].endswith(":0") and reply["positions"]["a.gone"].endswith(":4")
    assert [(event["eventType"], event["data"]) for event in events] == [("a.seen", 0), ("a.seen", 1), ("a.seen", 2)]


@pytest_twisted.ensureDeferred
async def test_only_what_the_filter_lets_through_is_replayed(nodes: Nodes) -> None:
    node = await nodes()
    publisher, client = await node.client(), await node.client()
    told = [await publisher.ask(type="publish", eventType="a.b", data={"n": number % 3}) for number in range(9)]
    reply = await client.ask(type="subscribe", events=["a.b"], filters={"n": 1}, since={"a.b": told[0]["position"]})
    events = await client.heard()
    assert reply["recovered"] == {"a.b": True}
    assert [event["position"].rpartition(":")[2] for event in events] == ["2", "5", "8"]


@pytest_twisted.ensureDeferred
async def test_what_was_missed_while_the_bus_was_away_comes_once_it_is_back(nodes: Nodes) -> None:
    memory = MemoryBroker(clock, Histories(Bounds(History()), Metrics()))
    buses = [MemoryBus(memory, name) for name in ("cut", "whole")]
    cut, whole = [await nodes(bus=bus) for bus in buses]
    client, publisher = await cut.client(), await whole.client()
    await client.subscribe("a.b", "c.*")
    await publisher.ask(type="publish", eventType="a.b", data=1)
    await client.expect("event", data=1)
    cut.lose(buses[0])
    memory.leave(buses[0])
    late = await cut.client()
    assert "positions" not in await late.ask(type="subscribe", events=["c.d"])
    told = [await publisher.ask(type="publish", eventType=name, data=2) for name in ("a.b", "c.d")]
    assert await client.heard() == []
    memory.join(buses[0])
    cut.restore(buses[0])
    await publisher.ask(type="publish", eventType="a.b", data=3)
    events = [message for message in await client.heard() if message["type"] == "event"]
    assert [(event["eventType"], event["data"]) for event in events if event["eventType"] == "a.b"] == [("a.b", 2), ("a.b", 3)]
    notice = await late.expect("continuity", eventType="c.d")
    assert notice["position"] == told[1]["position"], "its position follows"


class HeldStore(SqliteStore):
    """A store whose commits take as long as the test wants."""

    held: Deferred[None] | None = None

    def commit(self, samples: Sequence[Sample]) -> Deferred[None]:
        stored: Deferred[None] = succeed(None) if self.held is None else self.held
        commit = super().commit
        return stored.addCallback(lambda _none: commit(samples))


@pytest_twisted.ensureDeferred
async def test_telemetry_is_acknowledged_after_its_commit_and_not_before(nodes: Nodes) -> None:
    store = HeldStore(str(nodes.directory / "held.db"), clock)
    node = await nodes(store=store)
    client, watcher = await node.client(), await node.client()
    await watcher.subscribe("telemetry.received")
    store.held = Deferred()
    client.send(type="telemetry", agentId="a", metrics={"x": 1}, id=1)
    assert await client.heard() == []
    assert await watcher.heard() == []
    held, store.held = store.held, None
    held.callback(None)
    await client.expect("telemetry_ack", id=1)
    await watcher.expect("event")


@pytest_twisted.ensureDeferred
async def test_with_ack_received_telemetry_is_acknowledged_before_its_commit(nodes: Nodes) -> None:
    store = HeldStore(str(nodes.directory / "held.db"), clock)
    node = await nodes(store=store)
    client = await node.client()
    held: Deferred[None] = Deferred()
    store.held = held
    one: dict[str, Any] = {"metrics": {"x": 1}, "timestamp": format_millis(int(clock.seconds() * 1000))}
    for taken in (one, {"samples": [one, one]}):
        reply = await client.ask(type="telemetry", agentId="a", ack="received", **taken)
        assert reply["type"] == "telemetry_ack"
        shaped(reply, "timestamp", "id")
    assert await store.samples("a", 0, 2**60, 10) == []
    store.held = None
    held.callback(None)
    await client.ask(type="telemetry", agentId="a", metrics={"x": 1})
    assert len(await store.samples("a", 0, 2**60, 10)) == 4
    assert await client.heard() == []


@pytest_twisted.ensureDeferred
async def test_acknowledged_telemetry_survives_kill_9(tmp_path: Path) -> None:
    server = NexusServer(tmp_path)
    try:
        await server.start()
        client = await greeted(await sent(server.port, handshake(token=server.token)))
        for number in range(50):
            client.send(type="telemetry", agentId="agent", metrics={"x": number}, id=number)
        acknowledged = [(await client.expect("telemetry_ack"))["id"] for _ in range(50)]
    finally:
        await server.kill()
    assert acknowledged == list(range(50))
    store = SqliteStore(str(tmp_path / "nexus.db"), clock)
    await store.start()
    stored = await store.samples("agent", 0, 2**60, 100)
    await store.stop()
    assert [sample.metrics for sample in stored] == [b'{"x": %d}' % number for number in range(50)]


async def sent(port: int, data: bytes) -> Any:
    wire = await dial(TCP4ClientEndpoint(clock, "127.0.0.1", port))
    wire.write(data)
    return wire


@pytest_twisted.ensureDeferred
async def test_a_command_has_at_most_one_execution_and_one_end(nodes: Nodes) -> None:
    """However often it is sent, by whatever connections of the caller, and with agents that come and go."""
    node = await nodes()
    watcher = await node.client()
    await watcher.subscribe("task.updated")
    agents = [await node.client() for _ in range(3)]
    for agent in agents:
        await agent.ask(type="register", commands=["x"])
    callers = [await node.client() for _ in range(3)]
    for number in range(10):
        for caller in callers:
            caller.send(type="command", command="x", commandId=f"c-{number}", retries=3, ttl=5)
    for caller in callers:
        assert await caller.heard() == []
    # Each is written into the ledger before it is handed over.
    given = {agent: [await agent.expect("command") for _ in range(3)] for agent in agents}
    given[agents[0]].append(await agents[0].expect("command"))
    assert sorted(command["commandId"] for commands in given.values() for command in commands) == sorted(
        f"c-{number}" for number in range(10)
    )
    lost, *others = agents
    lost.drop()
    await node.connected(6)
    for agent in others:
        given[agent] += [await agent.expect("command", attempt=2) for _ in range(2)]
        for command in given[agent]:
            for _ in range(2):
                agent.send(type="command_result", commandId=command["commandId"], data=command["attempt"])
        await agent.heard()
    for caller in callers:
        # Each end is written into the ledger before it is told.
        results = [await caller.expect("command_result", status="success") for _ in range(10)]
        assert sorted(result["commandId"] for result in results) == sorted(f"c-{number}" for number in range(10))
    ends: list[str] = []
    while len(ends) < 10:
        update = (await watcher.expect("event"))["data"]
        ends += [update["taskId"]] if update["status"] == "completed" else []
    assert sorted(ends) == sorted(f"c-{number}" for number in range(10))
    for listener in (*callers, watcher):
        assert await listener.heard() == []


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_publishing_and_recovering_fail_and_plain_subscribing_does_not(nodes: Nodes) -> None:
    bus = MemoryBus(MemoryBroker(clock), "away")
    node = await nodes(bus=bus)
    client = await node.client()
    node.lose(bus)
    assert (await client.ask(type="publish", eventType="a.b", data=1))["code"] == "bus_unavailable"
    since = {"a.b": "epoch:1"}
    assert (await client.ask(type="subscribe", events=["a.b"], since=since))["code"] == "bus_unavailable"
    assert (await client.ask(type="subscribe", events=["a.b"]))["type"] == "subscribed"
    node.restore(bus)
    await client.expect("continuity", eventType="a.b", recovered=False)
    await client.ask(type="publish", eventType="a.b", data=2)
    await client.expect("event", data=2)


@pytest_twisted.ensureDeferred
async def test_while_the_bus_is_away_telemetry_is_stored_and_its_events_wait(nodes: Nodes) -> None:
    bus = MemoryBus(MemoryBroker(clock), "away")
    node = await nodes(bus=bus)
    client = await node.client()
    await client.subscribe("telemetry.received")
    node.lose(bus)
    for number in range(3):
        assert (await client.ask(type="telemetry", agentId="a", metrics={"x": number}))["type"] == "telemetry_ack"
    assert await client.heard() == []
    node.restore(bus)
    await client.expect("continuity", eventType="telemetry.received")
    assert [(await client.expect("event"))["data"]["metrics"]["x"] for _ in range(3)] == [0, 1, 2]


@pytest_twisted.ensureDeferred
async def test_events_that_wait_for_the_bus_are_bounded_and_overflow_is_told(nodes: Nodes) -> None:
    bus = MemoryBus(MemoryBroker(clock), "away")
    node = await nodes(limited(outbox=2), bus=bus)
    client = await node.client()
    await client.subscribe("telemetry.*")
    node.lose(bus)
    for number in range(5):
        await client.ask(type="telemetry", agentId="a", metrics={"x": number})
    node.restore(bus)
    messages = await client.heard()
    assert [message["data"]["metrics"]["x"] for message in messages if message["type"] == "event"] == [3, 4]
    told = [message["eventType"] for message in messages if message["type"] == "continuity"]
    assert set(told) == {"telemetry.*", "telemetry.received"}
    assert node.metrics.events_dropped["outbox"] >= 3


@pytest_twisted.ensureDeferred
async def test_delivery_to_a_slow_reader_is_bounded_and_nobody_waits_for_it(nodes: Nodes) -> None:
    node = await nodes(limited(send_queue=100_000 // HARD, message=50_000))
    slow = await node.client()
    (transport,) = node.transports()
    small_buffers(slow.wire, transport)
    quick = await node.client()
    for client in (slow, quick):
        await client.subscribe("a.b")
    slow.wire.transport.pauseProducing()
    for number in range(40):
        await quick.ask(type="publish", eventType="a.b", data="x" * 20000)
        await quick.expect("event")
        assert len(transport.dataBuffer) + transport._tempDataLen < 300_000, number
    slow.wire.transport.resumeProducing()
    assert await slow.closed() == (4001, "Slow consumer")


@pytest_twisted.ensureDeferred
async def test_what_one_client_sends_takes_effect_in_the_order_in_which_it_was_sent(nodes: Nodes) -> None:
    node = await nodes()
    client = await node.client()
    texts = [
        b'{"type":"subscribe","events":["a.b"]}',
        b'{"type":"publish","eventType":"a.b","data":1}',
        b'{"type":"unsubscribe","events":["a.b"]}',
        b'{"type":"publish","eventType":"a.b","data":2}',
        b'{"type":"subscribe","events":["a.b"]}',
        b'{"type":"publish","eventType":"a.b","data":3}',
    ]
    client.write(b"".join(frame(TEXT, text) for text in texts))
    messages = [await client.receive()]
    while messages[-1].get("data") != 3:
        messages.append(await client.receive())
    kinds = [message["type"] for message in messages if message["type"] != "event"]
    assert kinds == ["subscribed", "published", "unsubscribed", "published", "subscribed", "published"]
    numbers = [message["data"] for message in messages if message["type"] == "event"]
    assert numbers == sorted(set(numbers))
